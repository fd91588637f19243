"""What counted limits leave: windows that roll, days and months of a zone, hours that are closed, money."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import Money, Tenant, to_us
from gateway.quotas import counting, spec
from gateway.quotas.counting import Left, Span, Tally, day_of, month_of, refuses, reopens
from gateway.quotas.model import Book, Budget, Closed, Load, Per, Quota, Scope, Unit

NOW = datetime(2026, 11, 24, 2, 0, 3, tzinfo=UTC)
LOAD = Load(tenant=Tenant("acme/live"), channel="sms", adapter="a", account="sms-cn", template="t")


def bucket(**limits):
    (found,) = Book([Quota(owner=Tenant("acme/live"), name="q", **limits)]).buckets(LOAD)
    return found


class Counter:
    """What go does, with time as an argument; starts it let go, as a witness."""

    def __init__(self, of):
        self.of, self.rows, self.went = of, {}, []

    def tally(self, now):
        made = Tally()
        for (span, start), (units, micros) in self.rows.items():
            since = counting.since(span, self.of.quota.zone, now)
            if start >= since and (span in (Span.SLICE, Span.MINUTE) or start == since):
                made.add(span, start, units, micros)
        return made

    def go(self, now, units=1, cost=0):
        again = refuses(self.of, self.tally(now), units, cost, now)
        if again is None:
            self.went.append((now, units, cost))
            for span in counting.spans(self.of.quota):
                at = (span, counting.under(span, self.of.quota.zone, now))
                had = self.rows.get(at, (0, 0))
                self.rows[at] = (had[0] + units, had[1] + cost)
        return again

    def most_in(self, width):
        """The most units in any window of that width, wherever it begins."""
        return max(
            sum(u for at, u, _ in self.went if begin <= at < begin + width) for begin, _, _ in self.went
        )


EACH = {"name": "each", "each": ("account",), "rate": Decimal(10), "per_day": 1000}


@pytest.mark.parametrize(
    ("other", "limits"),
    [
        ({"scope": Scope(account="sms-cn"), "rate": Decimal(50)}, {"each": {"per_day"}, "q": {"rate"}}),
        ({"scope": Scope(channel="sms"), "rate": Decimal(50)}, {"each": {"rate", "per_day"}, "q": {"rate"}}),
        (
            {"scope": Scope(account="sms-cn"), "rate": Decimal(50), "published": True},
            {"each": {"rate", "per_day"}, "q": {"rate"}},
        ),
        (
            {"scope": Scope(account="sms-cn"), "rate": Decimal(50), "owner": Tenant("acme/live")},
            {"each": {"rate", "per_day"}, "q": {"rate"}},
        ),
    ],
    ids=["names the value", "names no value", "an account's own pace", "a tenant's own"],
)
def test_a_quota_that_names_the_value_stands_in_place_of_its_owners_bucket_of_it_and_nothing_else_does(
    other, limits
):
    everyone = Tenant("*/live")
    book = Book([Quota(owner=everyone, **EACH), Quota(**{"owner": everyone, "name": "q", **other})])

    assert {b.quota.name: b.limits for b in book.buckets(LOAD)} == limits


TRACES = st.lists(
    st.tuples(st.integers(0, 40_000).map(lambda ms: ms / 1000), st.integers(1, 3)), min_size=1, max_size=60
)


@given(TRACES, st.integers(1, 9))
def test_no_minute_holds_more_than_a_quota_allows_and_all_of_it_is_given(trace, most):
    counter, now = Counter(bucket(per_minute=most, unit=Unit.SEGMENT)), NOW
    for pause, units in trace:
        now += timedelta(seconds=pause)
        free = most - sum(u for at, u, _ in counter.went if at > now - timedelta(seconds=65))
        refused = counter.go(now, units)
        assert refused is None or units > free

    if counter.went:
        assert counter.most_in(timedelta(seconds=60)) <= most


@given(TRACES, st.integers(1, 9))
def test_no_hour_holds_more_than_a_quota_allows_and_all_of_it_is_given(trace, most):
    counter, now = Counter(bucket(per_hour=most, unit=Unit.SEGMENT)), NOW
    for pause, units in trace:
        now += timedelta(minutes=pause)
        free = most - sum(u for at, u, _ in counter.went if at > now - timedelta(minutes=61))
        refused = counter.go(now, units)
        assert refused is None or units > free

    if counter.went:
        assert counter.most_in(timedelta(hours=1)) <= most


class FixedWindow(Counter):
    """The mutant: a minute is that of the clock."""

    def tally(self, now):
        minute = counting.floor(now, counting.MINUTE_US)
        self.rows = {at: sums for at, sums in self.rows.items() if at[1] >= minute}
        return super().tally(now)


def test_a_window_by_the_clocks_minute_is_seen_to_double_at_its_edge():
    edge = NOW.replace(second=0)
    for kind, most in ((Counter, 4), (FixedWindow, 8)):
        counter = kind(bucket(per_minute=4))
        for at in (edge - timedelta(seconds=1), edge + timedelta(seconds=1)):
            for _ in range(9):
                counter.go(at)
        assert counter.most_in(timedelta(seconds=60)) == most


@given(TRACES, st.integers(3, 9))
def test_whoever_asks_again_when_told_gets_through(trace, most):
    counter, now = (
        Counter(bucket(per_minute=most, per_hour=2 * most, per_day=4 * most, unit=Unit.SEGMENT)),
        NOW,
    )
    for pause, units in trace:
        now += timedelta(seconds=10 * pause)
        again = counter.go(now, units)
        if again is not None:
            assert again > now
            assert (
                refuses(
                    counter.of,
                    counter.tally(again - timedelta(microseconds=1)),
                    units,
                    0,
                    again - timedelta(microseconds=1),
                )
                is not None
            )
            while again is not None:
                now = again
                again = counter.go(now, units)


ZONES = [
    "Asia/Shanghai",
    "America/New_York",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Asia/Beirut",
    "America/Havana",
]
INSTANTS = st.datetimes(datetime(2015, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))


@given(st.sampled_from([*ZONES, "UTC", "Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe"]), INSTANTS)
def test_a_day_holds_its_instant_and_begins_where_its_date_does(zone, now):
    begins, ends = day_of(zone, now)

    local = now.astimezone(ZoneInfo(zone)).date()
    assert begins <= now < ends
    assert begins.astimezone(ZoneInfo(zone)).date() == local
    assert (begins - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date() < local
    assert ends.astimezone(ZoneInfo(zone)).date() > local
    assert to_us(begins) % counting.QUARTER_US == 0
    month, next_month = month_of(zone, now)
    assert month <= begins
    assert next_month >= ends
    assert (begins == month) == (local.day == 1)


DAYS = [
    # zone, an instant, its day's first instant and the next one's; one midnight is skipped, one comes twice
    ("America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00Z", "2018-11-05T02:00Z"),
    ("America/Havana", "2018-11-04T12:00Z", "2018-11-04T04:00Z", "2018-11-05T05:00Z"),
    ("America/New_York", "2026-11-01T12:00Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
    ("Asia/Shanghai", "2026-11-24T15:59:59Z", "2026-11-23T16:00Z", "2026-11-24T16:00Z"),
    ("Asia/Shanghai", "2026-11-24T16:00:00Z", "2026-11-24T16:00Z", "2026-11-25T16:00Z"),
]


@pytest.mark.parametrize(("zone", "now", "begins", "ends"), DAYS)
def test_a_day_of_23_or_25_hours_is_one_day(zone, now, begins, ends):
    assert day_of(zone, datetime.fromisoformat(now)) == (
        datetime.fromisoformat(begins),
        datetime.fromisoformat(ends),
    )


NOON = (Closed(since=time(12), until=time(14)),)
NIGHT = (Closed(since=time(21), until=time(8)),)
HOURS = [
    (NOON, "Asia/Shanghai", "2026-11-24T03:59:59.999999Z", None),
    (NOON, "Asia/Shanghai", "2026-11-24T04:00Z", "2026-11-24T06:00Z"),
    (NOON, "Asia/Shanghai", "2026-11-24T05:59:59.999999Z", "2026-11-24T06:00Z"),
    (NOON, "Asia/Shanghai", "2026-11-24T06:00Z", None),
    (NIGHT, "UTC", "2026-11-24T20:59Z", None),
    (NIGHT, "UTC", "2026-11-24T21:00Z", "2026-11-25T08:00Z"),
    (NIGHT, "UTC", "2026-11-25T07:59Z", "2026-11-25T08:00Z"),
    (NIGHT, "UTC", "2026-11-25T08:00Z", None),
    ((*NIGHT, Closed(since=time(8), until=time(9))), "UTC", "2026-11-25T03:00Z", "2026-11-25T09:00Z"),
    ((Closed(since=time(8), until=time(9)), *NIGHT), "UTC", "2026-11-25T03:00Z", "2026-11-25T09:00Z"),
    # over a night of 23 hours, and of 25
    (NIGHT, "America/New_York", "2026-03-08T03:00Z", "2026-03-08T12:00Z"),
    (NIGHT, "America/New_York", "2026-11-01T03:00Z", "2026-11-01T13:00Z"),
    ((), "UTC", "2026-11-25T03:00Z", None),
]


@pytest.mark.parametrize(("closed", "zone", "now", "opens"), HOURS)
def test_closed_hours_end_when_they_say_by_the_walls_clock(closed, zone, now, opens):
    assert reopens(closed, zone, datetime.fromisoformat(now)) == (opens and datetime.fromisoformat(opens))


TIMES = st.times(datetime(2026, 1, 1, 0, 0).time()).map(lambda t: t.replace(second=0, microsecond=0))


@given(st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=3), st.sampled_from(ZONES), INSTANTS)
def test_what_reopens_is_open_then_and_was_not_before(hours, zone, now):
    closed = tuple(Closed(since=a, until=b) for a, b in hours)
    made = Quota(owner=Tenant("acme/live"), name="q", closed=closed, zone=zone)
    opens = reopens(closed, zone, now)

    if spec.faults(made):  # no minute of the day is open
        return
    if opens is not None:
        assert now < opens < now + timedelta(hours=49)
        assert reopens(closed, zone, opens) is None
    assert reopens(closed, zone, now) == opens


def test_a_day_is_given_wholly_and_again_from_its_midnight_on():
    counter = Counter(bucket(per_day=2, zone="Asia/Shanghai"))
    last = datetime(2026, 11, 24, 15, 59, 59, 999999, tzinfo=UTC)
    midnight = datetime(2026, 11, 24, 16, tzinfo=UTC)

    assert [counter.go(last) for _ in range(3)] == [None, None, midnight]
    assert [counter.go(midnight) for _ in range(3)] == [None, None, midnight + timedelta(days=1)]


def budget(amount, per=Per.DAY):
    return bucket(budget=Budget(amount=Decimal(amount), currency="CNY", per=per), zone="Asia/Shanghai")


def test_a_budget_is_spent_to_the_last_part_and_not_beyond():
    counter = Counter(budget("1.00"))
    cost = counting.micros_of(counter.of.quota.budget, Money(amount=Decimal("0.30"), currency="CNY"))
    ends = datetime(2026, 11, 24, 16, tzinfo=UTC)

    assert [counter.go(NOW, cost=cost) for _ in range(4)] == [None, None, None, ends]
    assert counter.go(NOW, cost=100_001) == ends
    assert counter.go(NOW, cost=100_000) is None
    assert counter.go(NOW, cost=0) == ends
    assert counter.go(ends, cost=cost) is None


def test_a_budget_of_a_month_ends_with_the_month_of_its_zone():
    assert Counter(budget("0", Per.MONTH)).go(NOW) == datetime(2026, 11, 30, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "currency", "micros"),
    [("0.05", "CNY", 50_000), ("0.0000001", "CNY", 1), ("0", "CNY", 0), ("0.05", "USD", 0)],
)
def test_a_price_is_rounded_up_and_another_currency_takes_nothing(amount, currency, micros):
    money = Money(amount=Decimal(amount), currency=currency)

    assert counting.micros_of(budget("1").quota.budget, money) == micros
    assert counting.micros_of(None, money) == 0
    assert counting.micros_of(budget("1").quota.budget, None) == 0


def test_what_is_left_is_the_least_of_all_limits_and_says_when_there_is_more():
    made = bucket(per_minute=10, per_hour=8, per_day=20, concurrency=6, zone="Asia/Shanghai")
    tally = Tally(calling=1)
    assert counting.left(made, tally, NOW) == Left(units=5, calling=1)
    slice_ = counting.floor(NOW, counting.SLICE_US)
    tally.add(Span.SLICE, slice_, 10, 0)
    full = counting.left(made, tally, NOW)
    assert (full.units, full.again) == (0, datetime(2026, 11, 24, 2, 1, 5, tzinfo=UTC))
    assert counting.left(bucket(concurrency=1), Tally(calling=1), NOW).again == NOW + counting.CALL_ENDS
    assert counting.left(bucket(closed=NOON), Tally(), NOW) == Left(units=None)
    shut = counting.left(bucket(closed=NOON), Tally(), datetime(2026, 11, 24, 12, tzinfo=UTC))
    assert shut == Left(units=0, again=datetime(2026, 11, 24, 14, tzinfo=UTC))


def test_of_a_budget_as_much_is_left_as_its_starts_cost_on_average():
    made = budget("1.00")
    assert counting.left(made, Tally(), NOW).units is None
    assert counting.left(made, Tally(day=(4, 200_000)), NOW).units == 16
    spent = counting.left(made, Tally(day=(19, 960_000)), NOW)
    assert (spent.units, spent.again) == (0, datetime(2026, 11, 24, 16, tzinfo=UTC))


WORDS = [
    (["rate=50"], {"rate": 50}),
    (["rate=0.5", "burst=1"], {"rate": 0.5, "burst": 1}),
    (["rate="], {"rate": None}),
    (["channel=sms", "account="], {"scope": {"channel": "sms", "account": None}}),
    (["each=account,template"], {"each": ["account", "template"]}),
    (["each="], {"each": []}),
    (
        ["closed=12:00-14:00,22:00-06:00"],
        {"closed": [{"from": "12:00", "to": "14:00"}, {"from": "22:00", "to": "06:00"}]},
    ),
    (["closed="], {"closed": []}),
    (["budget=500.00/CNY/day"], {"budget": {"amount": "500.00", "currency": "CNY", "per": "day"}}),
    (
        ["budget=5/CNY/day", "alarm_at=0.9"],
        {"budget": {"amount": "5", "currency": "CNY", "per": "day", "alarm_at": 0.9}},
    ),
    (
        ["alarm_at=0.9", "budget=5/CNY/day"],
        {"budget": {"amount": "5", "currency": "CNY", "per": "day", "alarm_at": 0.9}},
    ),
    (["budget="], {"budget": None}),
    (["unit=segment", "zone=UTC"], {"unit": "segment", "zone": "UTC"}),
]


@pytest.mark.parametrize(("words", "said"), WORDS)
def test_keywords_say_what_json_says(words, said):
    assert spec.keywords(words) == (said, [])


def test_every_wrong_keyword_is_told_at_once():
    _, wrong = spec.keywords(
        ["rate=fast", "rate=5", "per_day=2.5", "closed=noon", "budget=5", "alarm_at=nan", "colour=1", "burst"]
    )

    assert [(f.at, f.code) for f in wrong] == [
        ("rate", "form_invalid"),
        ("rate", "duplicate"),
        ("per_day", "form_invalid"),
        ("closed", "form_invalid"),
        ("budget", "form_invalid"),
        ("alarm_at", "form_invalid"),
        ("key=value", "unknown_key"),
        ("key=value", "unknown_key"),
    ]


def test_numbers_that_json_does_not_hold_are_wrong_keywords():
    _, wrong = spec.keywords(["rate=1e400", "alarm_at=1e-400", f"per_day={10**15}"])

    assert [(f.at, f.code) for f in wrong] == [
        ("rate", "form_invalid"),
        ("alarm_at", "form_invalid"),
        ("per_day", "form_invalid"),
    ]


def test_a_quota_is_written_and_read_back_as_it_was():
    made = Quota(
        owner=Tenant("acme/live"),
        name="q",
        each=("template",),
        unit=Unit.SEGMENT,
        rate=Decimal("0.125"),
        burst=3,
        per_hour=7,
        closed=NIGHT,
        zone="Asia/Shanghai",
        budget=Budget(amount=Decimal("5.50"), currency="CNY", per=Per.MONTH, alarm_at=Decimal("0.75")),
        version=4,
    )

    assert spec.read(made.owner, "q", spec.write(made), version=4) == made
