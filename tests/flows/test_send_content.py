"""Rules on content, kept when a text is filled in, and when its template is approved."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from makers import borrower, by_id, reminder, rows
from sendrig import ON_SQLITE, TENANT

from gateway.errors import BadInput
from gateway.policy.explain import sentences

pytestmark = ON_SQLITE
RULE = "/content/US.REGF.OPTOUT_LINE/optout_instruction"


@pytest.fixture
def folder(tmp_path):
    """The shipped templates, whose English SMS about a date to come no longer says how to opt out."""
    ignored = shutil.ignore_patterns("__pycache__", "*.py")
    made = Path(shutil.copytree(str(files("templates")), tmp_path / "templates", ignore=ignored))
    text = made / "pre_due/sms.en.liquid"
    text.write_text(text.read_text("utf-8").replace(" Reply STOP to opt out.", ""), "utf-8")
    return made


@pytest.fixture
async def silent(database_url, open_rig, folder):
    """A gateway that uses them."""
    return await open_rig(database_url, templates=folder)


def living_in(residence, zone, number):
    """A reminder by SMS, in English, to somebody there."""
    person = borrower(
        1,
        language="en",
        residence=residence,
        time_zones=[{"zone": zone, "source": "declared"}],
        addresses=[{"channel": "sms", "value": number, "kind": "personal"}],
    )
    return reminder(1, borrower=person, channels=["sms"])


AMERICAN = living_in("US-CA", "America/Los_Angeles", "+12135550123")


async def test_a_text_that_breaks_a_rule_is_not_sent_and_the_decision_says_which(silent):
    (name,) = await silent.take(AMERICAN)
    await silent.drain()

    row = await silent.reminder(name)
    assert (row.state, row.reason) == ("suppressed", "rejected_content")
    (fault,) = json.loads(row.decision)["faults"]
    assert (fault["at"], fault["code"]) == (RULE, "content_missing")
    assert "12 CFR 1006.6(e)" in fault["message"]
    assert "Reply STOP" in fault["message"]
    assert fault["message"] in sentences(await silent.services.reads.decision(TENANT, name))
    assert silent.reached() == []
    assert await silent.attempts() == []


async def test_a_preview_shows_the_same_and_keeps_nothing(silent):
    shown = await silent.services.asks.preview(TENANT, AMERICAN)

    assert (shown["decision"]["action"], shown["decision"]["reason"]) == ("suppress", "rejected_content")
    assert [fault["at"] for fault in shown["decision"]["faults"]] == [RULE]
    assert "STOP" not in shown["rendered"][0]["text"]
    assert await rows(silent.database, "reminder") == []


async def test_the_same_text_goes_where_no_pack_asks_for_more(silent):
    (name,) = await silent.take(living_in("SG", "Asia/Singapore", "+6591234567"))
    await silent.drain()

    assert (await silent.reminder(name)).state == "sent"


async def test_a_text_that_keeps_the_rules_goes_to_the_same_person(silent):
    await silent.take(AMERICAN)
    (name,) = await silent.take(
        by_id(2, borrower="B-1", debt="L-1", template="care", purpose="service_notice", channels=["sms"])
    )
    await silent.drain()

    row = await silent.reminder(name)
    assert (row.state, row.reason) == ("sent", None)


async def test_a_gateway_does_not_start_with_an_approval_for_places_whose_rules_a_text_breaks(
    database_url, open_rig, folder
):
    catalog = folder / "catalog.toml"
    catalog.write_text(
        catalog.read_text("utf-8").replace("version = 2", 'version = 3\nplaces = ["US"]'), "utf-8"
    )

    with pytest.raises(BadInput) as caught:
        await open_rig(database_url, templates=folder)

    assert caught.value.code == "template_unfit"
    assert [fault.at for fault in caught.value.faults] == ["pre_due/sms.en.liquid"]
    assert "US.REGF.OPTOUT_LINE" in caught.value.faults[0].message
