"""Whether what a template says keeps the rules on content, before anybody is sent it."""

from dataclasses import replace
from datetime import date

import pytest

from gateway.domain import Channel, Purpose
from gateway.errors import BadInput
from gateway.policy.content import blocks
from gateway.policy.model import Content, FromFact, Pack
from gateway.policy.parse import shipped
from gateway.templating import Catalog
from gateway.templating.approve import approve, review

TODAY = date(2026, 11, 24)
CATALOG = Catalog.load()
PACKS = tuple(shipped().values())
CARE = CATALOG.get("care")
TEXTS = len(CARE.texts)
ABSENT = {"require": ("agency_identity",)}


def pack(applies=("US",), **keys):
    """A pack with one rule, which no shipped text keeps unless `keys` say otherwise."""
    rule = Content(**{"id": "X.SAY", "cite": "X 1", **ABSENT, **keys})
    return Pack(id="X", version="1", rules=(rule,), applies=applies)


def remarks(template=CARE, **keys):
    return review(template, [pack(**keys)], today=TODAY)


def void(template, *packs):
    """The faults for which an approval is void."""
    try:
        approve([template], packs, today=TODAY)
    except BadInput as wrong:
        return wrong.faults if wrong.code == "template_unfit" else None
    return ()


def test_what_we_ship_keeps_every_rule_of_the_packs_we_ship():
    """But for Mexico: it wants a number that answers where a debt is collected, and only an operator knows theirs."""
    broken = [remark for made in CATALOG.templates.values() for remark in review(made, PACKS, today=TODAY)]

    assert {(one.breach.rule.id, one.breach.block.name) for one in broken} == {
        ("MX.FIRST.PHONE", "callback_number")
    }
    assert {one.at.split("/")[0] for one in broken} == {"overdue_gentle", "overdue_firm", "care"}
    assert "voice" not in {one.breach.channel for one in broken}


def test_every_block_that_a_shipped_pack_names_is_there():
    rules = [rule for made in PACKS for rule in made.rules if isinstance(rule, Content)]

    assert len(rules) >= 10
    assert {name for rule in rules for name in (*rule.require, *rule.forbid)} <= blocks().keys()


def test_a_rule_is_told_of_every_text_that_breaks_it():
    found = remarks()

    assert len(found) == TEXTS == 2 * len(Channel)
    assert "care/sms.en.liquid" in {remark.at for remark in found}
    assert not any(remark.refused for remark in found)


def test_a_text_is_tried_with_its_signature_and_without():
    """Only the unsigned one names the creditor itself; only the signed one could be taken for a signature."""
    assert remarks(require=("creditor_name",)) == []
    assert remarks(require=("callback_number",), channels=frozenset({"voice"})) == []


@pytest.mark.parametrize(
    ("keys", "there"),
    [
        ({"channels": frozenset({"sms"})}, 2),
        ({"channels": frozenset({"fax"})}, 0),
        ({"purposes": frozenset({"relay_request"})}, 0),
        ({"purposes": frozenset({"relay_request", "collection"})}, TEXTS),
        ({"exempt_purposes": frozenset({"service_notice"})}, TEXTS),
        ({"exempt_purposes": frozenset(Purpose)}, 0),
        ({"actors": frozenset({"agency"})}, 0),
        ({"actors": frozenset({"agency", "creditor"})}, TEXTS),
        ({"until": TODAY}, 0),
        ({"until": date(2026, 11, 25)}, TEXTS),
        ({"since": date(2030, 1, 1)}, TEXTS),
        ({"technologies": frozenset({"ai_voice"})}, TEXTS),
        ({"force": "draft"}, TEXTS),
    ],
)
def test_a_rule_is_told_if_a_reminder_of_the_template_may_come_under_it(keys, there):
    assert len(remarks(**keys)) == there


@pytest.mark.parametrize(
    ("places", "applies", "refused"),
    [
        ((), ("US",), False),
        (("US",), ("US",), True),
        (("US-CA",), ("US",), True),
        (("US",), ("US-CA",), False),
        (("CN", "US-NY-NYC"), ("US-NY",), True),
        (("USX",), ("US",), False),
        (("CN",), ("US",), False),
        (("CN",), ("everyone",), True),
        ((), ("everyone",), False),
        (("CN",), ("assigned",), False),
    ],
)
def test_an_approval_is_void_where_the_template_is_to_be_used(places, applies, refused):
    meant = replace(CARE, places=places)

    assert len(void(meant, pack(applies))) == (TEXTS if refused else 0)
    assert len(review(meant, [pack(applies)], today=TODAY)) == TEXTS


@pytest.mark.parametrize(
    "keys",
    [
        {"technologies": frozenset({"prerecorded"})},
        {"institutions": frozenset({"bank"})},
        {"products": frozenset({"card"})},
        {"since_fact": FromFact(fact="due_date", plus_dates=31)},
        {"until_fact": FromFact(fact="due_date", plus_dates=31)},
        {"purposes": frozenset({"collection"})},
        {"actors": frozenset({"creditor"})},
        {"force": "draft"},
        {"unsure": "a summary only"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_a_rule_that_may_not_bind_makes_no_approval_void(keys):
    meant = replace(CARE, places=("US",), actors=frozenset({"creditor", "agency"}))

    assert void(meant, pack(**keys)) == ()
    assert len(review(meant, [pack(**keys)], today=TODAY)) == TEXTS


def test_what_is_not_approved_has_no_approval_to_lose():
    assert void(replace(CARE, places=("US",), approved=False), pack()) == ()


def test_every_text_and_rule_is_told_at_once_with_what_to_add():
    first, second = pack(require=("agency_identity",)), pack(require=(), forbid=("optout_instruction",))
    faults = void(replace(CARE, places=("US",)), first, second)

    assert len(faults) == TEXTS + len([one for one in CARE.texts if one[0] is not Channel.VOICE])
    told = {fault.at: fault.message for fault in faults if fault.code == "content_missing"}
    assert told["care/voice.zh-CN.liquid"] == (
        "X.SAY (X 1): this text (voice, zh-CN) lacks agency_identity: say who writes or calls, and for whom: the"
        f" agency and its principal, such as: {blocks()['agency_identity'].example['zh']}"
    )
