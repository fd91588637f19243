"""The send protocol explored to its last state: no promise is broken, and designs with a mistake are caught."""

import re
from pathlib import Path

import pytest
from explore import STUCK, explore
from protocol import LOST, Budget, Protocol, canonical, free

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")
BUDGETS = {
    "one reminder": Budget(kill=3, freeze=2, request=2, reply=2, answer=3, cancel=1, stop=1),
    "two reminders for one slot of a cap": Budget(
        reminders=2, kill=1, freeze=1, request=1, reply=1, answer=1, cancel=1
    ),
    "a provider that drops a second request": Budget(
        own_key=True, kill=1, freeze=1, request=1, reply=2, answer=1, cancel=1, stop=1
    ),
    "a provider that gives up what it took": Budget(
        kill=1, freeze=1, request=1, reply=1, answer=2, given_up=2, cancel=1, stop=1
    ),
    "an escalation of two steps": Budget(
        steps=2, kill=2, freeze=1, request=1, reply=1, answer=1, cancel=1, stop=1
    ),
}

ONE = Budget(kill=1, freeze=1, request=1, reply=1, answer=1)
TWO = ONE._replace(reminders=2)
STEPS = ONE._replace(steps=2)
OWN_KEY = ONE._replace(own_key=True, reply=2)
GIVEN_UP = ONE._replace(steps=2, given_up=1)
STOPPED = ONE._replace(cancel=1, stop=1)

TWICE = "somebody was reached twice for one step of a reminder"
CAP = "somebody was reached more often than the cap allows"
WRONG = {
    "status check, call, update": (ONE, TWICE),
    "a lease that ends is enough": (ONE, TWICE),
    "an old heartbeat is enough": (ONE, "unknown, and its owner is alive and no reply was lost"),
    "an unknown is called again": (ONE, TWICE),
    "no quarantine": (ONE, TWICE),
    "what is not shown is called again": (ONE, TWICE),
    "go without a fence": (ONE, TWICE),
    "a go whose answer is lost counts as given": (ONE, TWICE),
    "an outcome is written whatever became of the rows": (ONE, TWICE),
    "the cap is counted without the person's lock": (TWO, CAP),
    "an unknown is not counted": (TWO, CAP),
    "go reads pauses without the lock": (STOPPED, "a call was given its go after a stop"),
    "cancel looks at attempts and then writes": (STOPPED, "a call began after its cancel"),
    "nobody voids what the dead left": (ONE, STUCK),
    "nobody marks what the dead were calling": (ONE, STUCK),
    "asked again when the key is forgotten": (OWN_KEY, TWICE),
    "a late refusal frees what was asked about": (OWN_KEY, TWICE),
    "an outcome that is written twice raises the step twice": (
        STEPS,
        "a step of its escalation is taken twice",
    ),
    "a dead owner's escalation ends": (STEPS, STUCK),
    "what ends late goes on though its next step was cancelled": (
        STEPS._replace(cancel=1),
        "a step is taken after its cancel",
    ),
}


def explored(budget, wrong="", *, harm=False):
    """With `harm` only what somebody suffers is looked for, not yet what would lead there."""
    protocol = Protocol(budget, wrong)
    return explore(
        protocol.start(),
        protocol.steps,
        canonical=canonical,
        broken=protocol.harm if harm else protocol.broken,
        ended=protocol.ended,
        free=free,
    )


def told(name):
    """What the page says beside a name: the other cells of its row."""
    (row,) = re.findall(rf"^\| {re.escape(name)} \|(.+)\|$", PAGE, re.MULTILINE)
    return [cell.strip().replace(" ", "") for cell in row.split("|")]


@pytest.mark.parametrize("name", BUDGETS)
def test_no_promise_is_broken_in_any_state_and_none_is_without_a_way_to_an_end(name):
    found = explored(BUDGETS[name])
    print(f"{name}: {found.states} states, {found.edges} edges")  # noqa: T201 (pytest shows it with -s)

    assert (found.broken, found.trace) == (None, ())
    assert found.states > 40_000
    assert found.edges > 5 * found.states - 100_000
    assert told(name)[-2:] == [str(found.states), str(found.edges)]


def test_what_catches_the_wrong_designs_lets_the_right_one_pass_and_takes_every_step():
    found = [explored(budget) for budget in (ONE, TWO, STEPS, OWN_KEY, STOPPED, GIVEN_UP)]

    steps = PAGE.partition("## The steps")[2].partition("\n## ")[0]
    assert [one.broken for one in found] == [None] * 6
    assert {label.removesuffix(LOST) for one in found for label in one.labels} == set(
        re.findall(r"^\| ([^|]+?) \|", steps, re.MULTILINE)[1:]
    )


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_design_is_caught(wrong):
    budget, promise = WRONG[wrong]
    found = explored(budget, wrong, harm=True)
    print(f"{wrong}, after {found.states} states: {' → '.join(found.trace)}")  # noqa: T201 (pytest shows it with -s)

    assert found.broken == promise
    assert told(wrong)[-1] == str(len(found.trace))


@pytest.mark.parametrize(
    ("wrong", "promise"), [("what is not shown is called again", None), ("no quarantine", TWICE)]
)
def test_as_long_as_nothing_freezes_the_quarantine_is_what_would_let_an_absence_count(wrong, promise):
    assert explored(ONE._replace(freeze=0, kill=2), wrong, harm=True).broken == promise


def test_a_process_frozen_for_longer_than_the_provider_knows_its_key_reaches_somebody_twice():
    """What is left over, and is told as such."""
    found = explored(OWN_KEY._replace(forgets=True), harm=True)

    assert found.broken == TWICE
    assert "the provider forgets the key" in found.trace
    assert (
        found.trace.index("frozen until judged dead")
        < found.trace.index("thaws")
        < found.trace.index("called")
    )
