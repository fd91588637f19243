"""Lives of accounts with the rules of breakers and throttles as witnesses; a mistake sown into the rules is caught."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from gateway import standing as shipped
from gateway.domain import Handed, HandOver

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
BAD = (HandOver.CONFIG, HandOver.NOT_SENT, HandOver.UNKNOWN)
DRAWN = [*[HandOver.ACCEPTED] * 6, *[HandOver.RETRY_AFTER] * 5, *BAD, HandOver.CONTENT]
REACHES = ["rate", "rate", "rate", "recipient", "account"]
MUTANTS = {
    "a wrong password is one error among others": (
        "if handed.ending is HandOver.CONFIG:\n        return standing.opened",
        "if False:\n        return standing.opened",
    ),
    "silence is no reason": ("standing.silent + recent.hanging >= SILENT", "False"),
    "errors are no reason": ("errors >= ERROR_SHARE * calls", "False"),
    "few errors are enough": ("calls >= LEAST_CALLS and errors >= ERROR_SHARE * calls", "errors >= 2"),
    "an open breaker lets through": ("return max(now, self.probe_at or now)", "return None"),
    "probes do not wait longer": ("min(2 * self.interval, LAST_PROBE)", "self.interval"),
    "two probe at once": ("return self.probe_until if now < self.probe_until else None", "return None"),
    "one success closes": ("if successes < SUCCESSES:", "if successes < 1:"),
    "a failure is forgotten": ("case HandOver.CONFIG | HandOver.NOT_SENT | HandOver.UNKNOWN:", "case None:"),
    "what began before closes": ("HALF_OPEN if ending.ref == standing.probe", "HALF_OPEN if True"),
    "a good answer closes": ("breaker=Breaker.HALF_OPEN, probe_at=now", "breaker=Breaker.CLOSED, probe_at=now"),
    "halved at each throttle": ("now - standing.halved_at >= HALVED_EVERY", "True"),
    "never halved twice": ("level=min(DEEPEST, level + 1)", "level=1"),
    "halved without end": ("level=min(DEEPEST, level + 1)", "level=level + 1"),
    "never doubled": ("max(0, (now - self.throttled_at) // DOUBLED_EVERY)", "0"),
    "doubled while it throttles": ("return replace(standing, level=level, throttled_at=now)", "return standing"),
    "a recipient's throttle is everybody's": ('case "recipient":', 'case "nobody":'),
    "a used-up day is a pace": ('case "account":', 'case "nobody":'),
    "a throttle on a ramp leaves less than a sixteenth": ("max(LEAST, ramp * ", "max(0.0, ramp * "),
}  # fmt: skip


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def with_mistake(old, new):
    """The rules with other words in the place of some."""
    source = Path(shipped.__file__).read_text("utf-8")
    assert source.count(old) == 1, old
    made = ModuleType(shipped.__name__)
    exec(compile(source.replace(old, new), shipped.__file__, "exec"), made.__dict__)
    return made


def after(rules, standing, now, ending, reach=None, ref="another"):
    handed = Handed(ending=ending, code="42", reach=reach)
    told = rules.Ending(pool="acme/live|sms", adapter="aliyun_sms", handed=handed, ref=ref)
    return rules.after(standing, [told], at(now))


@dataclass
class Life:
    """One drawn life of an account, and what its witnesses remember. Seconds since NOW."""

    rules: ModuleType
    drawn: random.Random
    now: float = 0.0
    row: int = 0
    """Probes that were taken, one after another."""
    halved: float = -9.0
    silent: list = field(default_factory=list)
    interval: int = 5

    def broken(self):
        """The rules that it breaks."""
        standing = self.rules.Standing()
        for _ in range(200):
            self.now += self.drawn.choice([0.1, 0.5, 1, 3, 6, 20])
            if standing.breaker == "open":
                if standing.factor(at(self.now)) != 0 or standing.barred(at(self.now)) is None:
                    yield "open lets nothing through"
                    return
                standing = self.asked(standing)
                if standing.breaker != "half_open":
                    yield "only successes close"
                    return
            before, probes = self.probed(standing)
            if probes and before.back_at(at(self.now)) is None:
                yield "one probe at a time"
            ending, reach = self.drawn.choice(DRAWN), self.drawn.choice(REACHES)
            standing = after(self.rules, before, self.now, ending, reach, "probe" if probes else "another")
            yield from self.throttles(before, standing, reach if ending is HandOver.RETRY_AFTER else None)
            yield from self.opens(before, standing, ending)
            if before.down:
                yield from self.closes(standing, ending, probes=probes)

    def asked(self, standing):
        """Its provider answers well when it is due to be asked."""
        self.now, self.row = max(self.now, (standing.probe_at - NOW).total_seconds()), 0
        return standing.asked(at(self.now), ok=True)

    def probed(self, standing):
        """A reminder goes as the probe, if one may; whether it does."""
        probes = standing.breaker == "half_open" and self.drawn.random() < 0.8
        return (standing.probed_by("probe", at(self.now)) if probes else standing), probes

    def throttles(self, before, standing, reach):
        level, may = before.level_at(at(self.now)), reach == "rate" and self.now - self.halved >= 1
        self.halved = self.now if may else self.halved
        slow = min(4, level + may)
        later = [standing.level_at(at(self.now + 5 * n - 0.05)) for n in range(1, 6)]
        if standing.level_at(at(self.now)) != slow:
            yield "halved once a second down to a sixteenth, by the rate alone"
        if reach == "rate" and later != [max(0, slow - n) for n in range(5)]:
            yield "doubled every five seconds"
        if not standing.down and standing.factor(at(self.now)) < 1 / 16:
            yield "never below a sixteenth"
        if reach == "account" and standing.used_up_until != MIDNIGHT:
            yield "a used-up day lasts to the provider's midnight"

    def opens(self, before, standing, ending):
        heard = ending not in (HandOver.UNKNOWN, HandOver.NOT_SENT)
        kept = [] if heard or before.down else [t for t in self.silent if self.now - t < 60]
        self.silent = [*kept, self.now] if ending is HandOver.UNKNOWN and not before.down else kept
        if ending is HandOver.CONFIG and not standing.down:
            yield "the first configuration error opens"
        if len(self.silent) >= 5 and not standing.down:
            yield "silence opens"
        if standing.down and not before.down:
            self.interval = 5

    def closes(self, standing, ending, *, probes):
        self.row += probes and ending is HandOver.ACCEPTED
        if not standing.down and (self.row < 3 or not probes):
            yield "three successes close"
        if probes and ending in BAD:
            self.interval = min(2 * self.interval, 900)
            if standing.breaker != "open" or standing.probe_at != at(self.now + self.interval):
                yield "a probe that failed doubles the wait"


def shares(rules):
    """What of the share of errors that opens is broken."""
    for good, bad, opens in ((5, 5, True), (6, 5, False), (0, 9, False)):
        standing = rules.Standing()
        for ending in [HandOver.NOT_SENT, *[HandOver.ACCEPTED] * good, *[HandOver.NOT_SENT] * (bad - 1)]:
            standing = after(rules, standing, 0, ending)
        if standing.down is not opens:
            yield "half of ten opens"


def silence(rules):
    """What of five calls without an answer is broken."""
    standing = rules.Standing()
    for n in range(5):
        standing = after(rules, standing, 10 * n, HandOver.UNKNOWN)
    if not standing.down:
        yield "silence opens"


def deep_ramp(rules):
    """What of a throttle on a ramp is broken."""
    standing = rules.Standing(closed_at=NOW, level=3, throttled_at=NOW, halved_at=NOW)
    if standing.factor(NOW) < 1 / 16:
        yield "never below a sixteenth"


def all_broken(rules):
    found = {rule for seed in range(25) for rule in Life(rules, random.Random(seed)).broken()}
    return found.union(shares(rules), silence(rules), deep_ramp(rules))


def test_the_rules_hold_over_drawn_lives():
    assert all_broken(shipped) == set()


@pytest.mark.parametrize("mistake", MUTANTS)
def test_a_mistake_sown_into_the_rules_is_caught(mistake):
    assert all_broken(with_mistake(*MUTANTS[mistake]))
