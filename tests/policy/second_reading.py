"""The engine against the witness: what each says of a drawn case, side by side.

Run as a program (FIRST COUNT), it prints a digest of what both say of the cases of these seeds.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import NamedTuple

import policy_draws as draws
from mutants import mutated
from plain_opening import SECOND, closing, moment, opening
from rule_draws import LIKELY

from gateway.audit.reading import allowed, objecting
from gateway.policy.calendars import SHIPPED, Calendars
from gateway.policy.check import parse_cases
from gateway.policy.decide import judge, open_until
from gateway.policy.model import Case, Hold, OptOut, Refusal

HOSTS = ("Asia/Kathmandu", "America/St_Johns", "Pacific/Auckland")
FINAL = Hold | OptOut | Refusal


class Drawn(NamedTuple):
    """A case, and the calendars with what an operator has stated."""

    case: Case
    calendars: Calendars = SHIPPED

    @property
    def known(self):
        """All but the packs, the question and the instant, as both sides are given it."""
        case = self.case
        return {"zones": case.zones, "history": case.history, "facts": case.facts, "told": case.told}

    @property
    def end(self):
        """The horizon."""
        return self.case.at + timedelta(days=self.case.horizon_days)

    def judged(self):
        """The engine's verdict."""
        at, days = self.case.at, self.case.horizon_days
        return judge(
            self.case.packs,
            self.case.question,
            **self.known,
            calendars=self.calendars,
            now=at,
            horizon_days=days,
        )

    def closes(self, limit):
        """When the engine says it closes."""
        case, calendars = self.case, self.calendars
        return open_until(
            case.packs, case.question, **self.known, calendars=calendars, now=case.at, limit=limit
        )

    def witness(self, ask, packs=None, **when):
        """What the witness, or a search with it, says."""
        case = self.case
        return ask(
            packs or case.packs, case.question, **self.known, overrides=self.calendars.overrides, **when
        )


def draw(r, kinds=LIKELY):
    """A case, its rules in two packs, the first rule of one of these kinds."""
    rules, case = draws.case(r, kinds)
    split = r.randint(1, len(rules))
    file = {"packs": {"A": rules[:split], "B": rules[split:]}, "cases": [case | {"packs": ["A", "B"]}]}
    read = parse_cases(json.dumps(file).encode())[0]
    if draws.often(r, 0.3):
        read = replace(read, facts={name: moment(fact) for name, fact in read.facts.items()})
    return Drawn(read, Calendars(draws.overrides(r, read.at)))


def differences(drawn, r, engine=None):
    """Where engine and witness differ on a case; `engine` is the case as the engine gets it, when not the same."""
    engine = engine or drawn
    verdict = engine.judged()
    words = drawn.witness(objecting, at=drawn.case.at)
    yield from of_objections(verdict, words)
    yield from of_decision(drawn, verdict, [word for word in words if not word.shadow], r)
    if all(word.shadow for word in words):
        yield from of_closing(drawn, engine, r)
    for finding in verdict.findings:
        if finding.objects:
            yield from of_rule_alone(drawn, finding)


def of_objections(verdict, words):
    """The same rules object in the same zones, enforced and in the shadow, having counted the same."""
    found = [f for f in verdict.findings if f.objects]
    engine = [(f.of.id, f.zone, f.shadow, f.counted if f.max is not None else None) for f in found]
    witness = [(word.rule, word.zone, word.shadow, word.counted) for word in words]
    if engine != witness:
        yield f"objecting: {engine} against {witness}"


def of_decision(drawn, verdict, barring, r):
    """The same decision and opening."""
    case, end = drawn.case, drawn.end
    final = {rule.id for pack in case.packs for rule in pack.rules if isinstance(rule, FINAL)}
    said, until = "send", None
    if any(word.rule in final for word in barring):
        said = "suppress"
    elif barring:
        until = drawn.witness(opening, now=case.at, end=end)
        said = "suppress" if until is None else "defer"
        yield from of_chance(drawn, until or end, r, opens=True)
    if (verdict.action.value, verdict.until) != (said, until):
        yield f"decision: {verdict.action.value} {verdict.until} against {said} {until}"


def of_closing(drawn, engine, r):
    """What is open closes at the same instant."""
    limit = drawn.case.at + timedelta(seconds=r.randint(1, 3 * 86_400))
    said, closes = engine.closes(limit), drawn.witness(closing, now=drawn.case.at, limit=limit)
    if said != closes:
        yield f"closes {said} against {closes}"
    yield from of_chance(drawn, closes, r, opens=False)


def of_chance(drawn, end, r, *, opens):
    """No instant at random before the end tells that the plain search has missed a change."""
    length = int((end - drawn.case.at).total_seconds())
    for _ in range(3 if length > 1 else 0):
        at = drawn.case.at + SECOND * r.randint(1, length - 1)
        if drawn.witness(allowed, at=at) == opens:
            yield f"the plain search missed {at}"


def of_rule_alone(drawn, finding):
    """A finding says when its own rule opens in its own zone."""
    rule = next(rule for pack in drawn.case.packs for rule in pack.rules if rule.id == finding.of.id)
    alone = replace(rule, zone=finding.zone, force="law", unsure="")
    packs = [replace(drawn.case.packs[0], rules=(alone,))]
    opens = drawn.witness(opening, packs, now=drawn.case.at, end=drawn.end)
    if finding.next != opens:
        yield f"{rule.id} in {finding.zone} opens {finding.next} against {opens}"


def digest(first, count):
    """Of what is said of the cases of these seeds; an AssertionError where engine and witness differ."""
    said = sha256()
    for seed in range(first, first + count):
        r = Random(seed)
        drawn = draw(r)
        found = list(differences(drawn, r))
        assert not found, (seed, found)
        said.update(in_words(drawn.judged()).encode())
    return said.hexdigest()


def on_hosts(first, count):
    """The digests of these seeds on hosts in other time zones, all at once."""
    command = [sys.executable, __file__, str(first), str(count)]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    hosts = [subprocess.Popen(command, env=env | {"TZ": zone}, stdout=subprocess.PIPE) for zone in HOSTS]
    return [host.communicate()[0].decode().strip() for host in hosts]


def in_words(verdict):
    """All that a verdict says."""
    found = [(f.of.id, f.zone, f.objects, f.counted, str(f.next), f.note) for f in verdict.findings]
    return repr((verdict.action.value, str(verdict.until), found))


def sees(mutant, name, most):
    """Whether the comparison sees a slip of the engine within so many cases with a rule that shows it."""
    for turn in range(most):
        r = Random(f"{name} {turn}")
        drawn = draw(r, mutant.kinds)
        slip = mutated(drawn.case, mutant)
        if slip is not None and any(differences(drawn, r, drawn._replace(case=slip))):
            return True
    return False


if __name__ == "__main__":
    sys.stdout.write(digest(int(sys.argv[1]), int(sys.argv[2])))
