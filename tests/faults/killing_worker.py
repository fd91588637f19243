"""`gateway worker` (or `api`) that ends itself by SIGKILL when it passes a named point for the N-th time.

    KILLS=FILE python killing_worker.py worker POINT N SEED [words of the command]

With MISTAKE=1 it has one as well: what the dead were calling is withdrawn and sent anew. The ledger must give it away.

The points are sown from outside, around functions of ours; nothing in the product knows of them. Right before it
ends it appends one line to FILE: where, and how many calls it had begun that are not written yet. SIGUSR1 ends it
wherever it is. The quarantine is 5 s, as in the demo: whoever is killed calls nobody afterwards.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from random import Random

from aiohttp import ClientResponse

import channels.aliyun_sms
import channels.smtp
import channels.twilio_sms
import channels.wechat
import gateway.cli.serving
from gateway.cli import main
from gateway.dispatch import Dispatch
from gateway.endings import Endings
from gateway.receipts import Callbacks
from gateway.reconcile import Reconcile
from gateway.starts import Starts
from gateway.store.dispatch import DispatchStore, DispatchTx
from gateway.store.intake import IntakeStore
from gateway.store.owners import BEAT_S, Heart, Owners
from gateway.sweep import LIMIT, Sweep

QUARANTINE = timedelta(seconds=5)
SOON_S, WRITTEN_S = 0.006, 0.002
"""Within this a death in the middle comes; so long after the request's bytes went to the kernel."""
HOT, SLOW, ENDING, STALLED, ACCEPTING = "hot", "slow", "ending", "stalled", "accepting"
POINTS = {
    # name: (which kind of worker passes it, within how many times, why there)
    "t1.begin": (HOT, 4, "picked, nothing locked: nobody may miss it"),
    "t1.locked": (HOT, 4, "persons locked: the locks go with the session"),
    "t1.claimed": (HOT, 4, "claimed, not decided: the claim is undone"),
    "t1.decided": (HOT, 4, "intents written, records not"),
    "t1.before_commit": (HOT, 4, "all written, nothing committed"),
    "t1.committing": (HOT, 4, "the commit may have come through or not"),
    "t1.after_commit": (HOT, 4, "intents nobody waits for: they are void, due again"),
    "take.before": (HOT, 6, "intents wait, no slot taken"),
    "take.after": (HOT, 6, "slots taken that nobody uses"),
    "go.begin": (HOT, 6, "asked for nothing yet"),
    "go.before_commit": (HOT, 6, "the go is written and not given"),
    "go.committing": (HOT, 6, "the go may be given: it counts as a call"),
    "go.after_commit": (HOT, 6, "the go is given, nobody called: it must count, not be sent again"),
    "call.begin": (HOT, 30, "before a connection is there"),
    "call.under_way": (HOT, 30, "anywhere in the conversation"),
    "call.written": (HOT, 30, "the request is with the kernel: the provider may do its work"),
    "call.answered": (HOT, 30, "the provider said yes, and nobody noted it"),
    "t2.begin": (HOT, 8, "outcomes known to this process alone"),
    "t2.before_commit": (HOT, 8, "outcomes written, not committed"),
    "t2.committing": (HOT, 8, "the commit may have come through or not"),
    "t2.after_commit": (HOT, 8, "all is written, nobody was told"),
    "heart.begin": (HOT, 1, "registered, without its lock"),
    "heart.beat": (HOT, 3, "right after a renewal: it looks alive for the longest time"),
    "void.before_commit": (SLOW, 4, "the leader dies with its lease, in its round"),
    "sweep.before_commit": (SLOW, 2, "what the dead left is marked, not committed"),
    "sweep.after_commit": (SLOW, 2, "marked, and what it frees not looked at again"),
    "asking.begin": (SLOW, 4, "the provider is about to be asked"),
    "asking.end": (SLOW, 4, "it answered, and nobody wrote it down"),
    "settle.before_commit": (SLOW, 4, "its word is written, not committed"),
    "settle.after_commit": (SLOW, 4, "settled"),
    "uncall.before_commit": (STALLED, 1, "calls that came late are about to be intents again"),
    "uncall.after_commit": (STALLED, 1, "they are intents again, of a dead process"),
    "drain.begin": (ENDING, 1, "told to end, with work before it"),
    "drain.end": (ENDING, 1, "drained, still an owner"),
    "intake.before_commit": (ACCEPTING, 12, "nothing accepted: the caller comes again"),
    "intake.committing": (ACCEPTING, 12, "accepted or not: the same key must answer the same"),
    "intake.after_commit": (ACCEPTING, 12, "accepted, and the caller not told"),
    "receipt.before_commit": (ACCEPTING, 40, "the provider's word is lost: it says it again, or is asked"),
    "receipt.after_commit": (ACCEPTING, 40, "written, the provider not told: it says it twice"),
}
STEP = ContextVar("step", default="")


class Killer:
    """Ends this process at one point."""

    def __init__(self, point, nth, seed):
        self.point, self.left, self.random = point, nth, Random(seed)
        self.begun = set()
        self.said = os.open(os.environ["KILLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def die(self, where=None):
        """Be gone."""
        line = {
            "point": where or self.point,
            "in_flight": len(self.begun),
            "pid": os.getpid(),
            "at": time.time(),
        }
        os.write(self.said, json.dumps(line).encode() + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)

    def comes_to(self, point):
        """Whether this is the time to end."""
        if point != self.point or self.left <= 0:
            return False
        self.left -= 1
        return self.left == 0

    def here(self, point):
        """End now, if it is time."""
        if self.comes_to(point):
            self.die()

    def soon(self, point):
        """End within what follows, if it is time."""
        if self.comes_to(point):
            threading.Timer(self.random.uniform(0, SOON_S), self.die).start()


def stepping(cls, name, step, after=None):
    """Name what happens within a method, with a point at its begin and its end."""
    original = getattr(cls, name)

    async def wrapped(self, *args, **kwargs):
        token = STEP.set(step)
        try:
            KILLER.here(f"{step}.begin")
            found = await original(self, *args, **kwargs)
            if after is not None:
                after(self, *args)
            KILLER.here(f"{step}.end")
        finally:
            STEP.reset(token)
        return found

    setattr(cls, name, wrapped)


def within(cls, name, step, point):
    """A point after a statement of a step."""
    original = getattr(cls, name)

    async def wrapped(self, *args, **kwargs):
        found = await original(self, *args, **kwargs)
        if STEP.get() == step:
            KILLER.here(point)
        return found

    setattr(cls, name, wrapped)


def sow_transactions():
    """Points around the commit of every step."""
    original = DispatchStore.transaction

    @asynccontextmanager
    async def transaction(self):
        step = STEP.get()
        async with original(self) as tx:
            yield tx
            KILLER.here(f"{step}.before_commit")
            KILLER.soon(f"{step}.committing")
        KILLER.here(f"{step}.after_commit")

    DispatchStore.transaction = transaction


def sow_go():
    """Points of the go, which has a transaction of its own."""
    of_store, of_tx = DispatchStore.go, DispatchTx.go

    async def go(self, *args):
        KILLER.here("go.begin")
        went = await of_store(self, *args)
        KILLER.here("go.after_commit")
        return went

    async def go_within(self, *args):
        went = await of_tx(self, *args)
        KILLER.begun |= went.granted
        KILLER.here("go.before_commit")
        KILLER.soon("go.committing")
        return went

    DispatchStore.go, DispatchTx.go = go, go_within


def sow_take():
    """Points before and after slots are taken."""
    original = Starts._take

    async def take(self, *args):
        KILLER.here("take.before")
        started = await original(self, *args)
        if started:
            KILLER.here("take.after")
        return started

    Starts._take = take


def sow_calls():
    """Points of a call, whatever the provider."""
    for module in (channels.aliyun_sms, channels.twilio_sms, channels.wechat, channels.smtp):
        sow_call(module.Adapter)
    original = ClientResponse.start

    async def start(self, *args):
        if STEP.get() == "call" and KILLER.comes_to("call.written"):
            await asyncio.sleep(WRITTEN_S)
            KILLER.die()
        return await original(self, *args)

    ClientResponse.start = start


def sow_call(adapter):
    original = adapter.send

    async def send(self, message):
        token = STEP.set("call")
        try:
            KILLER.here("call.begin")
            KILLER.soon("call.under_way")
            handed = await original(self, message)
            KILLER.here("call.answered")
        finally:
            STEP.reset(token)
        return handed

    adapter.send = send


def sow_heart():
    """Points of the heart's own thread."""
    session, pause = Heart._session, Heart._pause

    async def live(self):
        KILLER.here("heart.begin")
        await session(self)

    async def beaten(self, seconds):
        if seconds == BEAT_S:
            KILLER.here("heart.beat")
        await pause(self, seconds)

    Heart._session, Heart._pause = live, beaten


def sow_intake():
    """Points around the commit of what is accepted."""
    original = IntakeStore.run

    async def run(self, tenant, work):
        async def whole(tx):
            found = await work(tx)
            KILLER.here("intake.before_commit")
            KILLER.soon("intake.committing")
            return found

        found = await original(self, tenant, whole)
        KILLER.here("intake.after_commit")
        return found

    IntakeStore.run = run


def sow():
    """All of them."""
    sow_transactions()
    sow_go()
    sow_take()
    sow_calls()
    sow_heart()
    sow_intake()

    def ended(_endings, endeds):
        KILLER.begun -= {ended.ready.intent.ref for ended in endeds}

    def withdrawn(_starts, ones, **_):
        KILLER.begun -= {one.ready.intent.ref for one in ones}

    def uncalled(starts):
        KILLER.begun -= {one.ready.intent.ref for one in starts._waiting}

    stepping(Dispatch, "_claim", "t1")
    within(DispatchTx, "lock_persons", "t1", "t1.locked")
    within(DispatchTx, "claim", "t1", "t1.claimed")
    within(DispatchTx, "decide", "t1", "t1.decided")
    stepping(Endings, "_write", "t2", ended)
    stepping(Starts, "_withdraw", "withdraw", withdrawn)
    stepping(Starts, "_wait_again", "uncall", uncalled)
    stepping(Sweep, "_bury", "sweep")
    stepping(Sweep, "_void_overdue", "void")
    stepping(Reconcile, "_ask", "asking")
    stepping(Reconcile, "_settle", "settle")
    stepping(Callbacks, "take", "receipt")
    stepping(Starts, "give_up", "drain")
    leave = Owners.leave

    async def left(self):
        KILLER.here("drain.end")
        await leave(self)

    Owners.leave = left


async def bury_and_send_anew(self):
    """The mistake: nobody asks whether the provider was reached."""
    dead = await self._graves.dead()
    if dead:
        async with self._store.transaction() as tx:
            left = (await tx.orphans(dead, LIMIT)).values()
            await tx.void([(a.tenant, a.ref) for a in left], from_states=("intent", "calling"))


if __name__ == "__main__":
    role, point, nth, seed = sys.argv[1:5]
    KILLER = Killer(point, int(nth), int(seed))
    signal.signal(signal.SIGUSR1, lambda *_: KILLER.die("anywhere"))
    if os.environ.get("MISTAKE"):
        Sweep._bury = bury_and_send_anew
    sow()
    gateway.cli.serving.Place = partial(gateway.cli.serving.Place, quarantine=QUARANTINE)
    sys.argv[1:] = [role, *sys.argv[5:]]
    main()
