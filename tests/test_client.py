"""The client against a server on loopback that answers as told: what it sends, tries again and says."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime
from typing import NotRequired, Required, get_args, get_origin, get_type_hints

import pytest
from aiohttp import web
from gateway_client import AsyncGateway, ClientError, Gateway, NoAnswer, NotUnderstood, Refused, Retry, _words
from gateway_client._calls import Call, new_key
from gateway_client._tries import Answer, Lost, Tries

from gateway.bodies import models
from gateway.domain import Channel, DebtState, Purpose, ReminderState

KEY = "gw_test_0123456789_secretsecretsecret"
PHONE = "+8613812345678"
REMINDER = {
    "borrower": {"id": "B-1", "addresses": [{"channel": "sms", "value": PHONE, "kind": "personal"}]},
    "debt": "L-1",
    "purpose": "pre_due_reminder",
    "channels": ["sms"],
    "template": "pre_due",
}
ACCEPTED = {"id": "rm_1", "idempotency_key": "k", "state": "waiting", "accepted_at": "2026-11-24T00:00:00Z"}
QUICK = Retry(base_s=0.001)


def problem(status, code, **more):
    """A problem document as the gateway sends it."""
    headers = more.pop("headers", {})
    body = {
        "type": f"/docs/errors#{code}",
        "title": "No.",
        "status": status,
        "code": code,
        "request_id": "r1",
    } | more
    return lambda: web.Response(
        status=status, headers=headers, body=json.dumps(body), content_type="application/problem+json"
    )


def ok(body=None, status=200):
    return lambda: web.json_response(ACCEPTED if body is None else body, status=status)


def page_of_a_proxy(status):
    return lambda: web.Response(status=status, text="<h1>Bad gateway</h1>", content_type="text/html")


HANG_UP, STALL = object(), object()


@dataclass
class Server:
    """Gives its answers in order, the last one for ever, and keeps what it was asked."""

    answers: list = field(default_factory=lambda: [ok()])
    asked: list = field(default_factory=list)
    url: str = ""

    async def answer(self, request):
        text = await request.text()
        self.asked.append(
            (request.method, request.path_qs, request.headers, json.loads(text) if text else None)
        )
        say = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if say is HANG_UP:
            request.transport.abort()
            return web.Response()
        if say is STALL:
            await asyncio.sleep(0.6)
            return web.Response()
        return say()


@asynccontextmanager
async def serving(server, port=0):
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    server.url = "http://{}:{}".format(*runner.addresses[0])
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def server():
    async with serving(Server()) as running:
        yield running


class Caller:
    """One of the two clients behind one `await caller("method", …)`."""

    def __init__(self, kind):
        self.kind = kind

    async def __call__(self, server, method, *args, retry=QUICK, timeout_s=5.0, **named):
        settings = {"url": server.url, "retry": retry, "timeout_s": timeout_s}
        if self.kind is Gateway:
            return await asyncio.to_thread(self._wait, settings, method, args, named)
        async with AsyncGateway(KEY, **settings) as gateway:
            got = getattr(gateway, method)(*args, **named)
            return [item async for item in got] if hasattr(got, "__aiter__") else await got

    def _wait(self, settings, method, args, named):
        with Gateway(KEY, **settings) as gateway:
            got = getattr(gateway, method)(*args, **named)
            return list(got) if hasattr(got, "__next__") else got


@pytest.fixture(params=[Gateway, AsyncGateway], ids=["sync", "async"])
def call(request):
    return Caller(request.param)


async def test_a_reminder_is_handed_in_with_the_key_and_the_body(server, call):
    accepted = await call(server, "enqueue", idempotency_key="L-1:due", **REMINDER)

    assert accepted == ACCEPTED
    [(method, path, headers, body)] = server.asked
    assert (method, path) == ("POST", "/v1/reminders")
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("outreach-gateway-client/")
    assert body == {**REMINDER, "idempotency_key": "L-1:due"}


BORROWER, DEBT = {"language": "zh-CN"}, {"borrower": "B-1"}
EVENT = {"type": "paid", "amount": {"amount": "1.00", "currency": "CNY"}}
CONTACT = {
    "borrower": "B-1",
    "channel": "visit",
    "direction": "outbound",
    "at": "2026-11-24T00:00:00Z",
    "outcome": "answered",
}
QUESTION = {"borrower": "B-1", "channel": "voice", "purpose": "collection"}


@pytest.mark.parametrize(
    ("method", "args", "named", "verb", "path", "answer"),
    [
        ("preview", (), REMINDER, "POST", "/v1/reminders/preview", {"decision": {}, "rendered": []}),
        ("reminder", ("rm_1",), {}, "GET", "/v1/reminders/rm_1", {"id": "rm_1"}),
        ("cancel", ("rm_1",), {"reason": "sold"}, "POST", "/v1/reminders/rm_1/cancel", {"id": "rm_1"}),
        ("put_borrower", ("B-1",), BORROWER, "PUT", "/v1/borrowers/B-1", {"id": "B-1"}),
        ("put_borrower", ("a/b?c",), BORROWER, "PUT", "/v1/borrowers/a%2Fb%3Fc", {"id": "a/b?c"}),
        ("put_debt", ("L-1",), DEBT, "PUT", "/v1/debts/L-1", {"id": "L-1"}),
        ("debt_event", ("L-1",), EVENT, "POST", "/v1/debts/L-1/events", {"id": "ev_1"}),
        ("contact", (), CONTACT, "POST", "/v1/contacts", {"id": "ct_1"}),
        ("check_contact", (), QUESTION, "POST", "/v1/contacts/check", {"decision": {}}),
    ],
)
async def test_each_call_has_its_route(server, call, method, args, named, verb, path, answer):
    server.answers = [ok(answer)]

    assert await call(server, method, *args, **named) == answer
    assert [asked[:2] for asked in server.asked] == [(verb, path)]


@pytest.mark.parametrize(
    ("method", "item", "path", "keyed"),
    [
        ("enqueue_batch", REMINDER, "/v1/reminders/batch", True),
        ("put_borrowers", {"id": "B-1", **BORROWER}, "/v1/borrowers/batch", False),
        ("put_debts", {"id": "L-1", **DEBT}, "/v1/debts/batch", False),
        ("debt_events", {"debt": "L-1", **EVENT}, "/v1/debts/events/batch", True),
        ("contacts", CONTACT, "/v1/contacts/batch", True),
    ],
)
async def test_each_batch_has_its_route_and_a_key_for_each_item_that_creates(
    server, call, method, item, path, keyed
):
    results = [{"index": 0, "status": 202, "body": ACCEPTED}, {"index": 1, "status": 422, "error": {}}]
    server.answers = [ok({"results": results})]

    assert await call(server, method, [item, item]) == results
    [(verb, asked, _, body)] = server.asked
    assert (verb, asked) == ("POST", path)
    keys = [sent.pop("idempotency_key", None) for sent in body["items"]]
    assert body["items"] == [item, item]
    assert len(set(keys)) == (2 if keyed else 1)
    assert all(key is not None for key in keys) == keyed


async def test_a_key_that_was_given_stays(server, call):
    server.answers = [ok({"results": []})]

    await call(server, "enqueue_batch", [{"idempotency_key": "mine", **REMINDER}])

    assert server.asked[0][3]["items"][0]["idempotency_key"] == "mine"


@pytest.mark.parametrize(
    "first",
    [
        problem(503, "store_unavailable"),
        problem(429, "overloaded", headers={"Retry-After": "0"}),
        page_of_a_proxy(502),
        page_of_a_proxy(504),
        HANG_UP,
        STALL,
    ],
    ids=["503", "429", "502", "504", "hang-up", "time-out"],
)
async def test_every_try_carries_the_key_of_the_first(server, call, first):
    server.answers = [first, first, ok()]

    assert await call(server, "enqueue", timeout_s=0.2, **REMINDER) == ACCEPTED
    keys = Counter(body["idempotency_key"] for *_, body in server.asked)
    (tries,) = keys.values()
    assert tries >= 3  # on a slow machine a good answer may come too late as well


async def test_two_calls_have_two_keys(server, call):
    await call(server, "enqueue", **REMINDER)
    await call(server, "enqueue", **REMINDER)

    assert len({body["idempotency_key"] for *_, body in server.asked}) == 2


async def test_a_server_that_is_not_there_yet_is_tried_again(server, call):
    later = Server()
    async with serving(Server()) as gone:
        later.url = gone.url

    async def arrive():
        await asyncio.sleep(0.15)
        async with serving(later, port=int(later.url.rpartition(":")[2])):
            return await waiting

    waiting = asyncio.ensure_future(
        call(later, "enqueue", retry=Retry(tries=40, base_s=0.02, longest_s=0.05), **REMINDER)
    )
    assert await arrive() == ACCEPTED
    assert len(later.asked) == 1


async def test_a_server_that_never_comes_is_given_up_and_cannot_have_seen_it(call):
    async with serving(Server()) as gone:
        pass

    with pytest.raises(NoAnswer) as failed:
        await call(gone, "enqueue", retry=Retry(tries=3, base_s=0.001), **REMINDER)

    assert not failed.value.may_have_arrived
    assert "did not arrive" in str(failed.value)


@pytest.mark.parametrize("lost", [HANG_UP, STALL], ids=["hang-up", "time-out"])
async def test_an_answer_that_never_came_may_have_arrived(server, call, lost):
    server.answers = [lost]

    with pytest.raises(NoAnswer) as failed:
        await call(server, "enqueue", timeout_s=0.1, retry=Retry(tries=2, base_s=0.001), **REMINDER)

    assert failed.value.may_have_arrived
    assert len(server.asked) == 2


async def test_a_question_that_may_have_reserved_is_not_asked_twice(server, call):
    server.answers = [HANG_UP, ok({"decision": {}})]

    with pytest.raises(NoAnswer):
        await call(server, "check_contact", **QUESTION)

    assert len(server.asked) == 1


async def test_a_question_that_was_turned_away_is_asked_again(server, call):
    server.answers = [problem(503, "store_unavailable"), ok({"decision": {}})]

    assert await call(server, "check_contact", **QUESTION) == {"decision": {}}


@pytest.mark.parametrize("code", ["invalid_request", "key_reused", "forbidden", "too_late", "key_wrong"])
async def test_a_no_that_will_stay_no_is_not_tried_again(server, call, code):
    server.answers = [problem(422, code)]

    with pytest.raises(Refused) as refused:
        await call(server, "enqueue", **REMINDER)

    assert (refused.value.status, refused.value.code, refused.value.request_id) == (422, code, "r1")
    assert len(server.asked) == 1


async def test_a_refusal_lists_its_faults(server, call):
    faults = [{"at": f"/channels/{n}", "code": "unknown_word", "message": "use sms"} for n in range(7)]
    server.answers = [problem(422, "invalid_request", errors=faults)]

    with pytest.raises(Refused) as refused:
        await call(server, "enqueue", **REMINDER)

    assert [f.at for f in refused.value.faults] == [f"/channels/{n}" for n in range(7)]
    assert "/channels/4: use sms; and 2 more" in str(refused.value)
    assert "/channels/5" not in str(refused.value)


async def test_a_retry_after_longer_than_the_patience_ends_the_call_at_once(server, call):
    server.answers = [problem(429, "overloaded", headers={"Retry-After": "3600"})]

    with pytest.raises(Refused) as refused:
        await call(server, "enqueue", **REMINDER)

    assert refused.value.retry_after_s == 3600
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        page_of_a_proxy(200),
        page_of_a_proxy(404),
        ok({"hello": "world"}),
        ok([1]),
        lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
        lambda: web.json_response({"code": "x"}, status=400),
    ],
    ids=["page", "404 page", "other object", "array", "redirect", "no problem type"],
)
async def test_an_answer_that_is_not_the_gateways_is_no_success(server, call, answer):
    server.answers = [answer]

    with pytest.raises(NotUnderstood):
        await call(server, "enqueue", **REMINDER)

    assert len(server.asked) == 1


async def test_a_list_is_read_page_by_page_to_its_end(server, call):
    pages = [({"id": "rm_1"}, {"id": "rm_2"}), ({"id": "rm_3"},)]
    server.answers = [ok({"items": pages[0], "next": "c 1"}), ok({"items": pages[1], "next": None})]

    got = await call(server, "reminders", state="sent", from_=datetime(2026, 11, 1, tzinfo=UTC), limit=2)

    assert [item["id"] for item in got] == ["rm_1", "rm_2", "rm_3"]
    first = "/v1/reminders?state=sent&from=2026-11-01T00%3A00%3A00%2B00%3A00&limit=2"
    assert [asked[1] for asked in server.asked] == [first, first + "&after=c+1"]


async def test_a_list_that_does_not_move_on_ends_with_an_error(server, call):
    server.answers = [ok({"items": [], "next": "same"})]

    with pytest.raises(NotUnderstood):
        await call(server, "reminders")

    assert len(server.asked) == 2


async def test_instants_dates_and_amounts_are_spelled_out(server, call):
    east = timezone(timedelta(hours=8))

    await call(
        server,
        "put_debt",
        "L-1",
        due_date=date(2026, 11, 30),
        balance={"amount": Decimal("1280.50"), "currency": "CNY"},
        state_at=datetime(2026, 11, 27, 9, tzinfo=east),
    )

    assert server.asked[0][3] == {
        "due_date": "2026-11-30",
        "balance": {"amount": "1280.50", "currency": "CNY"},
        "state_at": "2026-11-27T09:00:00+08:00",
    }


@pytest.mark.parametrize(
    ("value", "error"),
    [(datetime(2026, 11, 27, 9), ValueError), ({PHONE}, TypeError), (float("nan"), ValueError)],
)
async def test_what_json_cannot_hold_is_refused_before_anything_is_sent(server, call, value, error):
    with pytest.raises(error) as refused:
        await call(server, "put_debt", "L-1", state_at=value)

    assert PHONE not in str(refused.value)
    assert server.asked == []


@pytest.mark.parametrize("answer", [problem(422, "invalid_request"), HANG_UP, page_of_a_proxy(500)])
async def test_no_error_holds_what_was_sent_or_the_key(server, call, answer):
    server.answers = [answer]

    with pytest.raises(ClientError) as failed:
        await call(server, "enqueue", retry=Retry(tries=1), **REMINDER)

    error = failed.value
    assert error.__cause__ is None
    assert error.__context__ is None
    told = repr(error) + str(vars(error)) + "".join(traceback.format_exception(error))
    assert not [secret for secret in (PHONE, KEY, "B-1") if secret in told]


@pytest.mark.parametrize("kind", [Gateway, AsyncGateway])
def test_a_clients_repr_shows_the_address_and_not_the_key(kind):
    gateway = kind(KEY, url="http://127.0.0.1:1/")

    assert repr(gateway) == f"{kind.__name__}(url='http://127.0.0.1:1')"


@pytest.mark.parametrize("key", ["", "with space", "line\nbreak", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key):
    with pytest.raises(ValueError, match="give an API key") as refused:
        Gateway(key)

    assert not key or key not in str(refused.value)


@pytest.mark.parametrize("wrong", [{"tries": 0}, {"base_s": -1}, {"patience_s": -0.1}, {"longest_s": -1}])
def test_impossible_patience_is_refused(wrong):
    with pytest.raises(ValueError, match="tries must be at least 1"):
        Retry(**wrong)


def test_a_made_key_is_letters_only_and_never_the_same():
    keys = {new_key() for _ in range(1000)}

    assert len(keys) == 1000
    assert all(key.isalpha() and len(key) == 33 for key in keys)


CALL = Call(method="POST", path="/v1/reminders", body=PHONE.encode())
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def busy(**headers):
    return Answer(status=503, headers=headers, content=b"", now=NOW)


def test_pauses_are_drawn_from_a_span_that_doubles_up_to_its_bound():
    spans = []
    tries = Tries(Retry(tries=8, base_s=1, longest_s=5), lambda low, high: spans.append((low, high)) or 0.0)

    pauses = [tries.pause_s(CALL, busy()) for _ in range(8)]

    assert spans == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5), (0, 5), (0, 5)]
    assert pauses == [0.0] * 7 + [None]


def test_patience_is_the_sum_of_all_pauses():
    tries = Tries(Retry(tries=99, base_s=10, longest_s=10, patience_s=25), lambda _, high: high)

    assert [tries.pause_s(CALL, busy()) for _ in range(3)] == [10, 10, None]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        (format_datetime(NOW + timedelta(seconds=9), usegmt=True), 9),
        (format_datetime(NOW - timedelta(seconds=9), usegmt=True), 0),
        ("-1", 0),
        ("soon", 0),
        ("", 0),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_else_nothing(header, seconds):
    tries = Tries(Retry(), lambda low, _: low)

    assert tries.pause_s(CALL, busy(**{"retry-after": header})) == seconds


def test_a_retry_after_is_never_cut_short():
    tries = Tries(Retry(patience_s=7), lambda low, _: low)

    assert tries.pause_s(CALL, busy(**{"retry-after": "7"})) == 7
    assert tries.pause_s(CALL, busy(**{"retry-after": "1"})) is None


def test_a_lost_connection_is_tried_again_where_nothing_arrived_or_twice_is_as_good_as_once():
    once = Call(method="POST", path="/", repeatable=False)
    table = {
        (call.repeatable, arrived): Tries(Retry(), lambda low, _: low).pause_s(
            call, Lost(what="x", may_have_arrived=arrived)
        )
        for call in (CALL, once)
        for arrived in (True, False)
    }

    assert table == {(True, True): 0.0, (True, False): 0.0, (False, True): None, (False, False): 0.0}


def keys_of(kind):
    """Key → whether it must be there, of a body as the client types it."""
    hints = get_type_hints(kind, include_extras=True)
    total = kind.__total__ and not any(get_origin(hint) is Required for hint in hints.values())
    return {
        key: get_origin(hint) is Required or (total and get_origin(hint) is not NotRequired)
        for key, hint in hints.items()
    }


@pytest.mark.parametrize(
    ("typed", "body"),
    [
        (_words.Money, models.MoneyIn),
        (_words.Actor, models.ActorIn),
        (_words.Address, models.AddressIn),
        (_words.TimeZone, models.TimeZoneIn),
        (_words.Consent, models.ConsentIn),
        (_words.OptOut, models.OptOutIn),
        (_words.Hold, models.HoldIn),
        (_words.Window, models.WindowIn),
        (_words.Blackout, models.BlackoutIn),
        (_words.Borrower, models.BorrowerIn),
        (_words.NamedBorrower, models.BorrowerItem),
        (_words.Debt, models.DebtIn),
        (_words.NamedDebt, models.DebtItem),
        (_words.Anchor, models.AnchorIn),
        (_words.Escalation, models.StepIn),
        (_words.NewReminder, models.ReminderIn),
        (_words.DebtEvent, models.EventIn),
        (_words.DebtEventOf, models.EventItem),
        (_words.Contact, models.ContactIn),
        (_words.ContactQuestion, models.CheckIn),
    ],
)
def test_a_typed_body_has_the_keys_that_the_gateway_reads(typed, body):
    read = {field.alias or name: field.is_required() for name, field in body.model_fields.items()}

    assert keys_of(typed) == read


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (_words.Channel, Channel),
        (_words.Purpose, Purpose),
        (_words.ReminderState, ReminderState),
        (_words.DebtState, DebtState),
        (_words.ContactChannel, get_args(models.ContactChannel)),
        (_words.ContactOutcome, get_args(models.ContactOutcome)),
        (_words.Technology, get_args(models.Technology)),
    ],
)
def test_the_clients_words_are_the_gateways(typed, words):
    assert set(get_args(typed)) == set(words)


def test_a_calls_repr_hides_its_body():
    assert PHONE not in repr(CALL)
