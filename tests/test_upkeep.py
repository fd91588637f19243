"""What quotas need from time to time: done by the one that leads, and said in the log."""

import json

import pytest

from gateway.upkeep import PRUNED_EVERY, Alarm, Upkeep


class Store:
    """Keeps what it was asked for."""

    def __init__(self):
        self.asked, self.ringing = [], []

    async def take_back(self):
        self.asked.append("take_back")

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
