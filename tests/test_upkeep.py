"""What quotas need from time to time: done by the one that leads, and said in the log."""

import json

import pytest

from gateway.upkeep import HEARD_S, PRUNED_EVERY, SLICES, Alarm, Changed, Upkeep


class Store:
    """Keeps what it was asked for."""

    def __init__(self):
        self.asked, self.ringing = [], []
        self.changes, self.slices = [], 0

    async def take_back(self):
        self.asked.append("take_back")

    async def changed(self):
        return self.changes

    async def let_go(self, changed):
        self.asked.append((changed.name, changed.version))
        self.slices -= 1
        return self.slices > 0

    async def alarms(self):
        self.asked.append("alarms")
        return self.ringing

    async def prune(self):
        self.asked.append("prune")


class Graves:
    def __init__(self):
        self.leading = True

    async def dead(self):
        return []

    async def leads(self, duty):
        return self.leading and duty == "quotas"


@pytest.fixture
def store():
    return Store()


async def test_the_leader_alone_looks_after_quotas_and_prunes_now_and_then(store):
    graves = Graves()
    upkeep = Upkeep(store=store, graves=graves)

    for _ in range(PRUNED_EVERY + 1):
        await upkeep.once()
    assert {what: store.asked.count(what) for what in store.asked} == {
        "take_back": PRUNED_EVERY + 1,
        "alarms": PRUNED_EVERY + 1,
        "prune": 2,
    }

    store.asked.clear()
    graves.leading = False
    await upkeep.once()
    assert store.asked == []


async def test_a_budget_that_rings_is_said_once_with_the_quota_and_its_share(store, capsys):
    store.ringing = [Alarm(quota="acme/live|sms-cn", of="", used=0.8123)]
    await Upkeep(store=store, graves=Graves()).once()

    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"]) == ("budget_alarm", "warning")
    assert (said["quota"], said["used"]) == ("acme/live|sms-cn|", 0.812)


def changed(version, age_s):
    return Changed(owner="acme/live", name="day", version=version, age_s=age_s)


async def asked_about(store, upkeep, change, slices):
    store.asked.clear()
    store.changes, store.slices = [change], slices
    await upkeep.once()
    return store.asked.count((change.name, change.version))


async def test_what_a_changed_quota_put_off_is_let_go_until_nothing_is_left_and_every_worker_has_heard(store):
    upkeep = Upkeep(store=store, graves=Graves())

    assert await asked_about(store, upkeep, changed(1, 1.0), 3) == 3
    assert await asked_about(store, upkeep, changed(1, HEARD_S - 1), 0) == 1
    assert await asked_about(store, upkeep, changed(1, HEARD_S + 1), 2 * SLICES) == SLICES
    assert await asked_about(store, upkeep, changed(1, HEARD_S + 6), 0) == 1
    assert await asked_about(store, upkeep, changed(1, HEARD_S + 11), 9) == 0
    assert await asked_about(store, upkeep, changed(2, 1.0), 0) == 1
