"""The pages say what the code says."""

import ast
import re

import pytest
from house import ROOT, heading, pages, rows, text, tracked

from gateway import errors
from gateway.api import problems
from gateway.bodies import codes
from gateway.domain import DebtState, Outcome, ReminderState
from gateway.settings import PREFIX, Settings

ONLY_COMMANDS = {"error", "setup", "policy"}
"""Codes that no answer of the API carries."""
FIND_MISTAKES = (
    "gateway/api/",
    "gateway/asks.py",
    "gateway/intake/",
    "gateway/quotas/spec.py",
    "gateway/templating/__init__.py",
    "gateway/templating/values.py",
    "gateway/whatif.py",
)
GIVES = {"_stop", "_wait", "_later"}


def literals(*places):
    """Every text that the sources name."""
    files = [path for path in tracked() if path.suffix == ".py" and str(path).startswith(places)]
    return {
        node.value
        for path in files
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def kinds(root):
    return {root, *(each for kind in root.__subclasses__() for each in kinds(kind))}


def test_every_code_of_the_error_tree_has_a_heading():
    codes = {kind.code for kind in kinds(errors.GatewayError)} - ONLY_COMMANDS

    assert codes - set(heading("docs/errors.md", 3)) == set()


def test_the_page_of_errors_says_what_the_api_serves():
    told = dict(re.findall(r"^### (\w+)\n(\d{3})\. ", text("docs/errors.md"), re.MULTILINE))

    assert told == {code: str(status) for code, (status, _, _) in problems.TITLES.items()}


def named_faults():
    """The codes of mistakes that are found in what a caller sent, beyond its form."""
    files = [path for path in tracked() if path.suffix == ".py" and str(path).startswith(FIND_MISTAKES)]
    for node in ast.walk(ast.Module([ast.parse(text(path)) for path in files], type_ignores=[])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Fault":
            yield from (
                word.value.value
                for word in node.keywords
                if word.arg == "code" and isinstance(word.value, ast.Constant)
            )


def test_every_code_of_a_single_mistake_is_described_and_no_other():
    assert set(rows("docs/errors.md")) == {*codes(), *named_faults()} - problems.TITLES.keys()


def reasons():
    """Every reason that the sources give: the gate's three kinds of word, and what stands as `reason=`."""
    files = [path for path in tracked() if path.match("gateway/*.py") or path.match("gateway/policy/gate.py")]
    for node in ast.walk(ast.Module([ast.parse(text(path)) for path in files], type_ignores=[])):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GIVES:
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))
        if isinstance(node, ast.keyword) and node.arg == "reason" and isinstance(node.value, ast.Constant):
            yield node.value.value


def test_every_reason_is_described():
    told = set(rows("docs/states.md"))

    given = {reason for reason in reasons() if reason}
    assert {"duplicate", "open_voice", "account_down"} <= given
    assert given - told == set()


def test_every_described_reason_is_given():
    table = text("docs/states.md").partition("## Reasons")[2]
    told = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    debts = {f"debt_{state}" for state in DebtState}

    assert (
        set(told)
        - literals(
            *("gateway/policy/gate.py", "gateway/deciding.py", "gateway/outcomes.py", "gateway/pauses.py"),
            "gateway/poison.py",
        )
        <= debts
    )


def test_every_state_is_described():
    told = set(rows("docs/states.md"))

    assert {*ReminderState, *Outcome, "intent", "calling", "void"} - told == set()


def test_every_debt_state_is_a_word():
    assert [state for state in DebtState if f"`{state}`" not in text("docs/words.md")] == []


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described(name):
    assert PREFIX + name.upper() in rows("docs/settings.md")


def test_every_described_setting_exists():
    assert set(rows("docs/settings.md")) - {PREFIX + name.upper() for name in Settings.model_fields} == set()


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_link_between_pages_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    inner = [link for link in links if "://" not in link]

    for link in inner:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], (
                link
            )
