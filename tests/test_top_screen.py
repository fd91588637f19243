"""`gateway top` draws what it was told, within 80 columns, and nothing of it comes out in clear that is personal."""

import io

import pytest
from rich.console import Console

from gateway.cli.top import SHOWN, Looks, _span, drawn
from gateway.errors import GatewayError

AT = "2026-11-24T02:00:00Z"
LANE = {"channel": "sms", "tenant": "acme", "priority": "normal", "due": 312, "oldest_due_s": 4.2}
QUOTA = {
    "owner": "acme",
    "name": "sms-cn",
    "rate": 50.0,
    "per_minute": None,
    "per_hour": None,
    "per_day": 20000,
    "concurrency": 32,
    "budget": None,
    "used": {
        "of": None,
        "rate": 49.8,
        "minute": 2988,
        "hour": 9120,
        "day": 9120,
        "calls": 11,
        "budget": None,
    },
    "factor": 1.0,
}
ACCOUNT = {
    "account": "sms-cn",
    "tenant": "acme",
    "breaker": "open",
    "why": "config",
    "code": "isv.AMOUNT",
    "probe_at": "2026-11-24T02:00:42Z",
    "factor": 0.0,
    "used_up_until": None,
    "barred": "account_down",
}
PAUSE = {
    "id": "ps_01KTBC4Q8ZJ2M6XW7R9E5T1VHN",
    "kind": "stop",
    "scope": {"channel": "wechat", "portfolio": "unsecured-2026"},
    "waiting": 312,
    "until": "2026-11-24T05:12:00Z",
}
SEEN = {
    "at": AT,
    "granted_by": "redis",
    "workers": {"by": 3, "of": 3, "missing": []},
    "due": 312,
    "oldest_due_s": 4.2,
    "lanes": [LANE],
    "starts": [{"channel": "sms", "tenant": "acme", "per_s": 49.8}],
    "accounts": [ACCOUNT],
    "quotas": [QUOTA],
    "pauses": [PAUSE],
    "queues": [
        {
            "channel": "sms",
            "tenant": "acme",
            "priority": "normal",
            "waiting": 9000,
            "clears_at": "2026-11-24T02:03:07Z",
            "expires": 0,
        }
    ],
}


def lines(columns=80, **changes):
    """What is drawn of a look."""
    out = io.StringIO()
    Console(file=out, width=columns, highlight=False, markup=False).print(drawn({**SEEN, **changes}))
    return out.getvalue().splitlines()


def test_a_screen_of_80_columns_says_it_all():
    drawn = lines()

    assert drawn[0] == "02:00:00 UTC   due 312, oldest 4.2s   workers 3/3   pace by redis"
    assert [line.split() for line in drawn if line.startswith("sms ")] == [
        ["sms", "acme", "normal", "9000", "312", "4.2s", "49.8", "~6.3s"]
    ]
    assert [line.split() for line in drawn if line.startswith("sms-cn")] == [
        ["sms-cn", "49.8/50", "9120/20000", "day", "46%", "1"],
        ["sms-cn", "acme", "open", "config", "isv.AMOUNT", "in", "42s", "0"],
    ]
    assert [line.split() for line in drawn if line.startswith("ps_")] == [
        ["ps_01KTBC4Q8ZJ2M6XW7R9E5T1VHN", "stop", "channel=wechat", "portfoli…", "312", "in", "3h12m"]
    ]


def test_names_of_any_length_fit_and_ids_stay_whole():
    long = "x" * 64
    drawn = lines(
        lanes=[{**LANE, "tenant": "a-tenant-with-a-name-of-32-letters", "due": 10**7}],
        quotas=[
            {**QUOTA, "name": long, "rate": 12345.5, "budget": {"amount": "99999999.99", "currency": "CNY"}}
        ],
        accounts=[{**ACCOUNT, "account": long, "tenant": long, "code": long}],
        pauses=[{**PAUSE, "scope": {"account": long, "template": long}}],
    )

    assert max(map(len, drawn)) <= 80
    assert any(line.startswith(PAUSE["id"] + " ") for line in drawn)
    assert any("a-tenant-wi…" in line and "10000000" in line for line in drawn)


def test_what_there_is_nothing_of_is_left_out():
    well = {**ACCOUNT, "breaker": "closed", "barred": None, "factor": 1.0, "why": None}

    drawn = lines(lanes=[], starts=[], accounts=[well], quotas=[], pauses=[], queues=None)

    assert len(drawn) == 1


def test_a_lane_is_shown_where_no_plan_says_when_it_clears_and_one_that_only_waits_too():
    urgent = {**LANE, "priority": "urgent", "due": 186}
    without = lines(queues=None, lanes=[urgent, LANE])
    later = lines(lanes=[], starts=[], accounts=[])

    assert [line.split()[2:] for line in without if line.startswith("sms ")] == [
        ["urgent", "-", "186", "4.2s", "49.8", "~3.7s"],
        ["normal", "-", "312", "4.2s", "49.8", "~10s"],
    ]
    assert any(line.split()[-1] == "-" for line in lines(queues=None, starts=[]) if line.startswith("sms "))
    assert [line.split() for line in later if line.startswith("sms ")] == [
        ["sms", "acme", "normal", "9000", "0", "-", "-", "in", "3m"]
    ]


def test_a_plan_says_when_a_lane_clears_where_no_account_of_the_tenant_is_in_trouble():
    (lane,) = [line for line in lines(accounts=[]) if line.startswith("sms ")]
    (of_another,) = [
        line for line in lines(accounts=[{**ACCOUNT, "tenant": "beta"}]) if line.startswith("sms ")
    ]
    (shared,) = [line for line in lines(accounts=[{**ACCOUNT, "tenant": "*"}]) if line.startswith("sms ")]

    assert [line.split()[-2:] for line in (lane, of_another)] == [["in", "3m"]] * 2
    assert shared.split()[-1] == "~6.3s"


def test_the_fullest_quotas_come_first_and_the_rest_is_counted():
    quotas = [
        {**QUOTA, "name": f"q{n:02}", "used": {**QUOTA["used"], "day": n * 1000, "calls": 0}}
        for n in range(SHOWN + 3)
    ]

    drawn = lines(quotas=quotas, lanes=[], queues=None, accounts=[], pauses=[])

    assert [line.split()[0] for line in drawn[3:5]] == [f"q{SHOWN + 2:02}", f"q{SHOWN + 1:02}"]
    assert drawn[-1].strip() == "… 3 more"


def test_money_counts_like_any_limit():
    budget = {"amount": "500.00", "currency": "CNY", "per": "day", "alarm_at": 0.8}
    used = {**QUOTA["used"], "budget": "410.4"}

    (line,) = [line for line in lines(quotas=[{**QUOTA, "budget": budget, "used": used}]) if "CNY" in line]

    assert line.split() == ["sms-cn", "49.8/50", "410.4/500.00", "CNY", "82%", "1"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (10, "10s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (3599, "59m"),
        (3600, "1h00m"),
        (86399, "23h59m"),
        (86400, "1d00h"),
    ],
)
def test_a_length_of_time_is_said_in_six_characters(seconds, said):
    assert _span(seconds) == said
    assert len(said) <= 6


class Calls:
    """A session that answers what a test says, and counts."""

    def __init__(self, plan):
        self.plan, self.planned = plan, 0

    async def get(self, path):
        return {word: SEEN[word] for word in ("at", "due")}

    async def items(self, path, query, limit):
        return [path, query]

    async def post(self, path, body):
        self.planned += 1
        if isinstance(self.plan, Exception):
            raise self.plan
        return self.plan


async def test_when_a_backlog_clears_is_asked_now_and_then_only():
    queue = {"channel": "sms", "tenant": "acme", "priority": "normal", "waiting": 3}
    calls = Calls({"queues": [{**queue, "now": {"drains_at": AT, "expires": 1, "cost": []}, "proposed": {}}]})
    looks = Looks(calls)

    first, second = await looks.look(), await looks.look()

    assert first["queues"] == second["queues"] == [{**queue, "clears_at": AT, "expires": 1}]
    assert first["pauses"] == ["/v1/pauses", {"active": "true"}]
    assert calls.planned == 1


async def test_a_plan_that_is_refused_takes_nothing_else_away():
    looks = Looks(Calls(GatewayError("too much waits")))

    assert (await looks.look())["queues"] is None
