"""The client against the gateway itself: `gateway up` as a process, both clients, a test key."""

import re
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from gateway_client import AsyncGateway, Gateway, Refused

NOW = datetime.now(UTC)
BORROWER = {
    "language": "en",
    "residence": "GB",
    "time_zones": [{"zone": "Europe/London", "source": "declared"}],
    "addresses": [{"channel": "email", "value": "user@example.com", "kind": "personal"}],
}
DEBT = {
    "creditor": "acme",
    "product": "cash_loan",
    "due_date": (NOW + timedelta(days=20)).date(),
    "balance": {"amount": "12.50", "currency": "GBP"},
    "governing_law": "GB",
    "state": "open",
    "state_at": NOW,
}
REMINDER = {
    "purpose": "pre_due_reminder",
    "channels": ["email"],
    "template": "pre_due",
    "facts": {"pay_url": "https://pay.example.com/L-1"},
    "not_before": NOW + timedelta(days=1),
    "expires_at": NOW + timedelta(days=3),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Address and test key of a gateway that is up."""
    folder = tmp_path_factory.mktemp("a gateway")
    url = f"127.0.0.1:{free_port()}"
    program = "from gateway.cli import main; main()"
    command = [sys.executable, "-c", program, "up", "--data", str(folder / "data"), "--listen", url]
    with (folder / "err").open("wb") as err:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True, cwd=folder)
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("ready"):
            break
    key = re.search(r"gw_test_\S+", said)
    yield {"key": key and key[0], "url": f"http://{url}"}
    process.terminate()
    process.stdout.close()
    assert process.wait(30) == 0


def test_a_reminder_is_handed_in_asked_after_and_stopped_by_its_payment(settings):
    with Gateway(**settings) as gateway:
        assert gateway.put_borrower("B-1", **BORROWER)["id"] == "B-1"
        assert gateway.put_debt("L-1", borrower="B-1", **DEBT)["id"] == "L-1"
        accepted = gateway.enqueue(idempotency_key="L-1:due", borrower="B-1", debt="L-1", **REMINDER)
        again = gateway.enqueue(idempotency_key="L-1:due", borrower="B-1", debt="L-1", **REMINDER)
        with pytest.raises(Refused) as other:
            gateway.enqueue(
                idempotency_key="L-1:due", borrower="B-1", debt="L-1", **REMINDER | {"repeat": True}
            )
        seen = gateway.preview(borrower="B-1", debt="L-1", **REMINDER)
        paid = gateway.debt_event("L-1", type="paid")
        listed = [item["id"] for item in gateway.reminders(borrower="B-1")]

    assert again == accepted
    assert other.value.code == "key_reused"
    assert seen["decision"]["reason"] == "duplicate"
    assert (paid["state"], paid["stopped"], paid["too_late"]) == ("paid", [accepted["id"]], [])
    assert listed == [accepted["id"]]


async def test_a_batch_is_handed_in_listed_page_by_page_and_cancelled(settings):
    items = [
        {
            "borrower": {"id": f"A-{n}", **BORROWER, "addresses": [mail(n)]},
            "debt": {"id": f"M-{n}", "borrower": f"A-{n}", **DEBT},
            **REMINDER,
        }
        for n in range(5)
    ]
    items[3]["template"] = "no_such"

    async with AsyncGateway(**settings) as gateway:
        results = await gateway.enqueue_batch(items)
        known = {result["body"]["id"] for result in results if result["status"] == 202}
        listed = [r async for r in gateway.reminders(from_=NOW - timedelta(minutes=1), limit=2)]
        first = await gateway.reminder(results[0]["body"]["id"])
        cancelled = await gateway.cancel(first["id"], reason="sold")
        answer = await gateway.check_contact(
            borrower="A-1", debt="M-1", channel="visit", purpose="collection"
        )
        told = await gateway.contact(
            borrower="A-1", debt="M-1", channel="visit", at=NOW, outcome="no_answer", direction="outbound"
        )

    assert [result["status"] for result in results] == [202, 202, 202, 422, 202]
    assert results[3]["error"]["errors"][0]["code"] == "template_unknown"
    assert known <= {reminder["id"] for reminder in listed}
    assert first["template"] == {"name": "pre_due", "version": 2}
    assert cancelled == {"id": first["id"], "state": "cancelled"}
    assert answer["decision"]["action"] in {"send", "defer"}
    assert told["id"].startswith("ct_")


def mail(n):
    return {"channel": "email", "value": f"user{n}@example.com"}


def test_mistakes_are_told_with_their_places_and_without_what_was_sent(settings):
    with Gateway(**settings) as gateway, pytest.raises(Refused) as refused:
        gateway.put_borrower("B-2", addresses=[{"channel": "sms", "value": "+8613"}], language="zz-zz-zz")

    assert ("/addresses/0/value", "phone_impossible") in {(f.at, f.code) for f in refused.value.faults}
    assert "+8613" not in str(refused.value) + str(vars(refused.value))


async def test_a_wrong_key_is_refused(settings):
    async with AsyncGateway("gw_test_nobody", url=settings["url"]) as gateway:
        with pytest.raises(Refused) as refused:
            await gateway.reminder("rm_1")

    assert (refused.value.status, refused.value.code) == (401, "key_wrong")
