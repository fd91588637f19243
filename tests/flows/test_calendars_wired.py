"""What operators state reaches the process: its calendars, its events, and what its metrics say of them."""

import re
from datetime import UTC, date, datetime

from gateway.policy.lasting import calendars_named, calendars_of_residence, reviews_due
from gateway.policy.parse import shipped
from gateway.settings import load
from gateway.vault import KeyRing
from gateway.wiring import Gateway, Place

STATED = """
[[calendar]]
name = "KE"
begins = {ends}
ends = 2099-12-31
source = "s"
holidays = []
[[blackout]]
place = "KE"
reason = "disaster"
since = 2026-11-01
source = "s"
"""


async def opened(tmp_path, **settings):
    (tmp_path / "data").mkdir(exist_ok=True)
    ring = tmp_path / "data" / "keyring.json"
    place = Place(
        settings=load(data=str(tmp_path / "data"), **settings),
        ring=KeyRing.load(ring) if ring.exists() else KeyRing.create(ring),
        redis=None,
        public_url="http://127.0.0.1:1",
    )
    return Gateway(place)


def series(gateway, name):
    """Labels → value of a metric."""
    text = gateway.metrics.render().decode()
    return {
        found[1]: float(found[2])
        for found in re.finditer(rf"^gateway_{name}{{(.*)}} (\S+)$", text, re.MULTILINE)
    }


async def test_each_calendar_that_is_read_and_each_review_that_is_due_has_a_figure(tmp_path):
    gateway = await opened(tmp_path)
    today = datetime.now(UTC).date()

    figures = series(gateway, "calendar_days_left")

    packs, calendars = shipped().values(), gateway.overrides.calendars
    named = calendars_named(packs)
    wanted = {f'calendar="{name}",read_by="rule"' for name in named}
    wanted |= {
        f'calendar="{name}",read_by="residence"'
        for name in calendars_of_residence(packs, calendars, today) - named
    }
    assert figures.keys() == wanted
    assert set(series(gateway, "pack_review_days_left")) == {
        f'pack="{pack}"' for pack in reviews_due(packs, today)
    }
    await gateway.aclose()


async def test_what_is_stated_in_the_file_is_used(tmp_path):
    plain = await opened(tmp_path)
    ends = plain.overrides.calendars.coverage("KE").ends
    file = tmp_path / "days.toml"
    file.write_text(STATED.format(ends=ends))

    gateway = await opened(tmp_path, calendars=str(file))

    assert gateway.overrides.calendars.coverage("KE").ends == date(2099, 12, 31)
    assert gateway.overrides.regional_blackouts("KE") == (("disaster", date(2026, 11, 1), None),)
    left = next(
        value for labels, value in series(gateway, "calendar_days_left").items() if 'calendar="KE"' in labels
    )
    assert abs(left - (date(2099, 12, 31) - datetime.now(UTC).date()).days) <= 1
    for each in (plain, gateway):
        await each.aclose()
