"""Templates change while reminders wait and while workers are replaced: what is said is approved, and known."""

import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from makers import borrower, by_id, debt
from sendrig import TENANT
from sqlalchemy import insert

from gateway.pauses import Kind, PauseScope
from gateway.quotas.model import Scope
from gateway.store import schema
from gateway.store.keys import Role
from gateway.store.pauses import Actor, Wanted

ABROAD = [{"channel": "sms", "value": "+12025550110", "kind": "personal"}]
OPS = Actor(owner=TENANT, holder="ann", role=Role.OPS, since=None)


@pytest.fixture
def catalog(tmp_path):
    """Makes a folder of templates like the shipped one, but for what is replaced in its catalog and a first word."""

    def make(name, *changes, word=""):
        ignored = shutil.ignore_patterns("__pycache__", "*.py")
        folder = Path(shutil.copytree(str(files("templates")), tmp_path / name, ignore=ignored))
        listed = (folder / "catalog.toml").read_text("utf-8")
        for old, new in changes:
            assert old in listed
            listed = listed.replace(old, new, 1)
        (folder / "catalog.toml").write_text(listed, "utf-8")
        said = folder / "pre_due/sms.zh-CN.liquid"
        said.write_text(word + said.read_text("utf-8"), "utf-8")
        return folder

    return make


V2 = 'name = "pre_due"\nversion = 2\napproved = true'


def version(number, approved="true"):
    return V2, f'name = "pre_due"\nversion = {number}\napproved = {approved}'


async def waiting(rig, **more):
    await rig.put(borrower(1, addresses=ABROAD), debt(1))
    (name,) = await rig.take(by_id(1, channels=["sms"], **more))
    return name


async def test_a_text_that_is_not_approved_is_not_said_whatever_version_was_accepted(
    postgres_url, open_rig, catalog
):
    before = await open_rig(postgres_url, templates=catalog("old"))
    name = await waiting(before)
    after = await open_rig(
        postgres_url, templates=catalog("new", version(3, "false"), word="NEVER APPROVED. "), clock=None
    )
    await after.drain()

    row = await after.reminder(name)
    assert after.reached() == []
    assert (row.state, row.reason) == ("deferred", "template_unusable")
    assert "pre_due of version 3 is not approved" in row.decision

    template = after.gateway.catalog.get("pre_due")
    said = {"template": "pre_due", "version": 3, "content_hash": template.content_hash, "approved": True}
    async with after.database.write() as conn:
        await conn.execute(insert(schema.template_approval).values(tenant=TENANT, at=0, who="cleo", **said))
    await after.advance(minutes=15)
    await after.drain()

    assert [line["text"][:15] for line in after.reached()] == ["NEVER APPROVED."]


async def test_what_is_said_is_named_by_its_own_version(postgres_url, open_rig, catalog):
    before = await open_rig(postgres_url, templates=catalog("old"))
    name = await waiting(before)
    after = await open_rig(postgres_url, templates=catalog("new", version(3), word="NEWER. "), clock=None)
    await after.drain()

    (attempt,) = await after.attempts(name)
    assert [line["text"][:6] for line in after.reached()] == ["NEWER."]
    assert attempt.template_version == 3


async def test_a_stop_of_a_version_stops_its_text_wherever_that_would_be_said(
    postgres_url, open_rig, catalog
):
    before = await open_rig(postgres_url, templates=catalog("old"))
    await waiting(before)
    after = await open_rig(postgres_url, templates=catalog("new", version(3), word="WRONG. "), clock=None)
    scope = PauseScope(quota=Scope(template="pre_due"), template_version=3)
    stop = Wanted(key="s", kind=Kind.STOP, scope=scope, until=None, ramp_s=0, reason="wrong words")
    await after.services.pauses.put(stop, OPS)
    await after.drain()

    assert after.reached() == []


@pytest.mark.parametrize("behind", ["it is unknown", "it is older"])
async def test_a_worker_whose_catalog_is_behind_leaves_a_reminder_to_the_others(
    postgres_url, open_rig, catalog, behind
):
    if behind == "it is older":
        newer, older = catalog("new", version(3), word="NEWER. "), catalog("old")
    else:
        newer, older = catalog("new"), catalog("old", ('name = "pre_due"', 'name = "pre_due_of_old"'))
        (older / "pre_due").rename(older / "pre_due_of_old")
    new = await open_rig(postgres_url, templates=newer)
    late = await open_rig(postgres_url, templates=older, clock=None)
    name = await waiting(new)
    await late.drain()

    row = await new.reminder(name)
    assert (row.state, row.reason) == ("deferred", "template_unusable")

    await new.advance(minutes=15)
    await new.drain()

    assert (await new.reminder(name)).state == "sent"


async def test_what_no_worker_can_say_expires(postgres_url, open_rig, catalog):
    older = catalog("old", ('name = "pre_due"', 'name = "pre_due_of_old"'))
    (older / "pre_due").rename(older / "pre_due_of_old")
    new = await open_rig(postgres_url, templates=catalog("new"))
    late = await open_rig(postgres_url, templates=older, clock=None)
    name = await waiting(new, expires_at="2026-11-24T06:00:00Z")
    await late.drain()
    await late.advance(hours=5)
    await late.drain()

    assert (await new.reminder(name)).state == "expired"
