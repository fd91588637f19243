"""A small deployment in one thread: the real parts of workers and of the API, over a simulated store and providers.

`Stage` is set up once; each `World` is one schedule of it, drawn from a seed: which reminders, how many workers, who is
killed, stopped or cut off when, which commits fail or go unheard, what each request comes to, and in which order all
that is ready runs.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from itertools import count

import sim_providers
from makers import NOW, borrower, debt, phone, reminder
from sim_loop import PROCESS, Loop, Process, StuckError
from sim_store import Database, Heart, Server
from sqlalchemy import insert

from gateway.accounts import AccountRow, Accounts
from gateway.deciding import Desk
from gateway.dispatch import Dispatch
from gateway.domain import Account, Mode, Outcome, Receipt, Tenant, to_us
from gateway.endings import Endings
from gateway.errors import Conflict, Unavailable
from gateway.intake import Done, Intake
from gateway.live import Live
from gateway.pauses import Kind, PauseScope
from gateway.policy.overrides import NONE
from gateway.quotas.asked import AHEAD_US, LATE_US, Granted
from gateway.quotas.model import Scope
from gateway.receipts import Callbacks
from gateway.reconcile import Reconcile
from gateway.rooms import Rooms
from gateway.sendlog.record import LogKeys
from gateway.starts import Starts
from gateway.store import schema
from gateway.store.accounts import AccountRows
from gateway.store.dispatch import DispatchStore
from gateway.store.intake import IntakeStore
from gateway.store.journal import NoJournal
from gateway.store.keys import Role
from gateway.store.live_config import LiveRows
from gateway.store.log import Log
from gateway.store.owners import Owners
from gateway.store.pauses import Actor, Pauses, Wanted
from gateway.sweep import Sweep
from gateway.telemetry import Metrics
from gateway.templating import Catalog
from gateway.texts import Texts
from gateway.vault.fields import DataKey
from gateway.wake import Drains
from gateway.wiring import load_packs

TENANT = Tenant("acme/live")
OPS = Actor(owner=TENANT, holder="ann", role=Role.OPS, since=NOW - timedelta(days=900))
QUARANTINE = timedelta(seconds=5)
"""More than a call lasts."""
SLOT_S = (AHEAD_US + LATE_US) / 1e6
"""From its start being granted to the call at most."""
FAULTS_S = 12.0
"""Faults begin within this."""
JUDGED_S = 14.0
"""Whoever is dead has been judged so within this."""
RECEIPTS_S = 3.0
"""Providers have told all within this."""
FATES = (("swallowed", 0.12), ("lost", 0.18), ("late", 0.22), ("refused", 0.34), ("taken", 1.0))
"""What a request comes to, each up to so much of a draw from 0 to 1."""
BOUND_S = 3 * 3600.0
"""All is settled within this: the last question to a provider comes after an hour and a quarter."""

SINGLE = {"sms": range(1, 5), "wechat": range(11, 14), "email": range(21, 24)}
"""People by channel, of one reminder each."""
PAIRS = {31: ("sms", "sms"), 32: ("sms", "email"), 33: ("wechat", "sms")}
"""People of two reminders each, of whom one a day may be sent."""


class Keys:
    """Stands for the vault: a key for everybody, always there."""

    def __init__(self, entropy):
        self._entropy = entropy
        self._keys = {}

    async def keys_for(self, tenant, subjects, *, create):
        return {name: self._key(tenant, name) for name in subjects}

    async def keys(self, whose, *, create):
        return {one: self._key(*one) for one in whose}

    def _key(self, tenant, name):
        found = self._keys.get((tenant, name))
        if found is None:
            found = self._keys[tenant, name] = DataKey(bytes(32), tenant, self._entropy)
        return found

    async def credentials(self, tenant, account):
        return {}


class Grants:
    """gateway.quotas.asked.Grants: whatever is asked for starts soon, while the granter is there at all."""

    def __init__(self, world):
        self._world = world

    async def take(self, wanted):
        await self._world.point()
        if self._world.redis_away():
            raise Unavailable("no pace (simulated)")
        starts = tuple(tuple(self._world.ahead_us() for _ in group.segments) for group in wanted.groups)
        return Granted(source="sql", epoch=1, starts=starts)

    async def room(self, paces, worker):
        return [100.0] * len(paces)


class Blinds:
    """Blind indexes without a key."""

    def blind(self, kind, value):
        return (f"{kind}|{value}".encode() * 16)[-16:]


def _address(channel, number):
    return {
        "sms": phone(number),
        "wechat": f"openid-of-nobody-{number:011d}",
        "email": f"nobody-{number}@example.com",
    }[channel]


def _person(number, channels):
    addresses = [
        {"channel": channel, "value": _address(channel, number), "kind": "personal"}
        for channel in sorted(set(channels))
    ]
    return borrower(number, addresses=addresses)


@dataclass(frozen=True)
class Accepted:
    """A reminder that was accepted: the input that must not be lost."""

    id: str
    person: int
    channel: str

    @property
    def to(self):
        return _address(self.channel, self.person)

    def id_of(self, reminders):
        return next(name for name, one in reminders.items() if one == self)

    @property
    def debt(self):
        return f"L-{self.id}"


class Stage:
    """What is the same in every schedule: tables, accounts, packs, accepted reminders."""

    def __init__(self):
        self.entropy = random.Random(0)
        self.keys = Keys(self.random_bytes)
        self.server = Server()
        self.catalog, self.packs, self.metrics = Catalog.load(), load_packs(None), Metrics()
        self.log = Log(self.keys, LogKeys(pseudonyms=bytes(32), commitments=bytes(32)), self.random_bytes)
        self.accounts = [
            Account(tenant=TENANT, name=adapter, mode=Mode.LIVE, adapter=adapter, sender="acme")
            for adapter in sim_providers.ADAPTERS
        ]
        self.accepted = []
        still = Still(self.server)
        self.server.world = still
        self.server.prepare()
        Loop(random.Random(0)).run(self._fill())

    def random_bytes(self, number):
        return self.entropy.randbytes(number)

    async def _fill(self):
        PROCESS.set(Process("stage"))
        database = Database(self.server)
        ids = count(1)
        rows = AccountRows(database, self.log, lambda prefix: f"{prefix}{next(ids)}")
        await rows.put(self.accounts, who="tests", reason="a test", renewed=())
        self.server.conn.execute(
            insert(schema.pack_override).values(
                tenant=TENANT, rule="OP.CAPS.DAY", max=1, at=0, who="tests", reason=""
            )
        )
        people = [(n, (channel,)) for channel, numbers in SINGLE.items() for n in numbers] + list(
            PAIRS.items()
        )
        raws, said = [], []
        for number, channels in people:
            for place, channel in enumerate(channels):
                key = f"{number}{'ab'[place]}"
                raws.append(
                    reminder(
                        number,
                        idempotency_key=key,
                        borrower=_person(number, channels),
                        debt=debt(number, id=f"L-{key}"),
                        channels=[channel],
                    )
                )
                said.append((number, channel, key))
        intake = self.intake(database, _Carries())
        for (number, channel, key), answer in zip(said, await intake.reminders(TENANT, raws), strict=True):
            assert isinstance(answer, Done), answer
            row = self.server.say("SELECT id FROM reminder WHERE debt = ?", f"L-{key}")
            self.accepted.append((row[0][0], Accepted(id=key, person=number, channel=channel)))
        self.server.say("UPDATE reminder SET next_at = NULL")

    def intake(self, database, bindings):
        return Intake(
            store=IntakeStore(database, self.log),
            vault=self.keys,
            blinds=Blinds(),
            catalog=self.catalog,
            bindings=bindings,
            wake=_Silent(),
            entropy=self.random_bytes,
        )


class _Carries:
    def bound(self, tenant, template, channel):
        return True


class _Silent:
    def ring(self, channels):
        """The sweep comes."""


class Still:
    """A world in which nothing goes wrong."""

    def __init__(self, server):
        self._now = to_us(NOW)

    def now_us(self):
        return self._now

    async def point(self):
        await asyncio.sleep(0)

    def away(self, process):
        return False

    def commits(self, process):
        return "well"


@cache
def stage():
    """The one stage of this process."""
    return Stage()


def _within(process):
    """The context of a process."""
    context = copy_context()
    context.run(PROCESS.set, process)
    return context


class Worker:
    """A worker process, composed as gateway.wiring does it."""

    def __init__(self, world, name):
        self.world = world
        self.process = Process(name)
        self.going = None
        self.ends = False
        """Whether it was told to end: it is told so once."""

    def start(self):
        self.going = self.world.loop.create_task(self._work(), context=_within(self.process))

    def runs(self, act):
        """Something that happens to it."""
        self.world.loop.call_soon(act, context=_within(self.process))

    async def _work(self):
        world, stage = self.world, self.world.stage
        database, loop = Database(stage.server), world.loop
        key = world.number()
        self.owners = Owners(
            database, owner_id=f"ow_{self.process.name}", lock_key=key, direct_url=None, monotonic=loop.time
        )
        self.owners._heart = Heart(stage.server, self.owners.id, key, self.process)
        store = DispatchStore(database, stage.log)
        self.accounts = await world.accounts(stage)
        self.live = Live(LiveRows(database), loop.time)
        desk = world.desk(self.accounts, self.live.standings)
        grants, endings = Grants(world), Endings(store, QUARANTINE)
        starts = Starts(
            store=store,
            journal=NoJournal(),
            grants=grants,
            live=self.live,
            owner=self.owners,
            endings=endings,
            metrics=stage.metrics,
            links=self.accounts.address,
            slept=lambda: 0.0,
        )
        self.dispatch = Dispatch(
            store=store,
            desk=desk,
            owner=self.owners,
            live=self.live,
            rooms=Rooms(live=self.live, desk=desk, grants=grants, starts=starts, worker=self.owners.id),
            starts=starts,
            endings=endings,
            metrics=stage.metrics,
            one_writer=True,
        )
        self.drains = Drains(self.dispatch.drain)
        woken = set()
        self.sweep = Sweep(
            store=store,
            graves=self.owners,
            accounts=self.accounts,
            wake=woken.add,
            metrics=stage.metrics,
            jitter=lambda: 0.5,
            quarantine=QUARANTINE,
        )
        self.reconcile = Reconcile(
            store=store,
            graves=self.owners,
            accounts=self.accounts,
            texts=Texts(stage.keys),
            links=self.accounts.address,
            metrics=stage.metrics,
        )
        try:
            await self.owners.register()
            await self.live.refresh(self.owners.id)
        except Unavailable:  # it ends, and is started again
            world.ends(self)
            return
        self.outcomes = asyncio.create_task(self.dispatch.run())
        self.duties = [
            asyncio.create_task(self._duty(lambda: self._sweep(woken))),
            asyncio.create_task(self._duty(self.reconcile.once)),
        ]
        await asyncio.gather(self.outcomes, *self.duties)

    async def _surely(self, act):
        while True:
            try:
                await act()
            except Unavailable:
                await asyncio.sleep(0.5)
            else:
                return

    async def _sweep(self, woken):
        await self.live.refresh(self.owners.id)
        woken.clear()
        await self.sweep.once()
        for channel in sorted(woken):
            self.drains.start(channel)

    async def _duty(self, act):
        """As gateway.sweep.forever; how often is the world's to say."""
        while True:
            with suppress(Unavailable):
                await act()
            await asyncio.sleep(self.world.pause())

    async def drain(self):
        """The end of gateway.worker.work."""
        self.dispatch.quiet()
        for task in self.duties:
            task.cancel()
        await asyncio.gather(*self.duties, return_exceptions=True)
        await self.dispatch.finish()
        await self.drains.finish()
        self.outcomes.cancel()
        await asyncio.gather(self.outcomes, return_exceptions=True)
        await self._surely(self.owners.leave)
        self.process.dead = True


@dataclass
class Seen:
    """What a schedule tried and what came of it."""

    tried: Counter = field(default_factory=Counter)
    wrong: list = field(default_factory=list)
    """Broken promises, in words."""
    trace: list = field(default_factory=list)
    ends: Counter = field(default_factory=Counter)


class World:
    """One schedule."""

    def __init__(self, seed):
        self.stage = stage()
        self.seed = seed
        self.random = random.Random(seed)
        self.loop = Loop(random.Random(self.random.random()))
        self.ledger = sim_providers.Ledger()
        self.seen = Seen()
        self.workers = []
        self.api = Process("api")
        self.quiet_at = float("inf")
        self._away = {}
        self._redis_until = 0.0
        self._clock_s = 0.0
        """How far the store's clock has jumped; processes measure by their own, which does not."""
        self._commits = {}
        self._committed = count()
        self._at = {}
        """What happens at which entry of the trace."""
        self._whose = None
        self._paused = []
        """Channels of which nothing goes any more."""
        self._asks = set()
        """What services and operators ask for and have no answer to yet."""
        self._numbers = count(1)
        self.stops = []
        """(seconds, reminders, in words) of each cancel, payment and pause that was confirmed."""
        self._cuts = 0
        self.in_flight = 0
        """Calls whose owner was killed, stopped or cut off meanwhile."""

    # What the store and the providers ask.

    def now_us(self):
        return to_us(NOW) + round((self.loop.time() + self._clock_s) * 1e6)

    def number(self):
        return next(self._numbers)

    async def point(self):
        """A scheduling point; one in eight lasts a while."""
        await asyncio.sleep(0.002 * self.random.random() if self.random.random() < 0.125 else 0)

    def away(self, process):
        return self.loop.time() < self._away.get(process, 0.0)

    def ahead_us(self):
        return int(AHEAD_US * self.random.random())

    def redis_away(self):
        return self.loop.time() < self._redis_until

    def commits(self, process):
        """How a commit of this process goes: `well`, it `fails`, or it is `unheard`."""
        how = self._commits.get(next(self._committed), "well")
        self.say("commit", process.name)
        if how != "well":
            self.seen.tried[f"commits {how}"] += 1
            self.say("commit", process.name, how)
        return how

    def fate(self):
        """What a request comes to, its refusal, and seconds there and back."""
        draw, way = self.random.random(), 0.02 * self.random.random()
        fate = "taken"
        if self.loop.time() < FAULTS_S + 5:
            fate = next(fate for fate, up_to in FATES if draw < up_to)
        self.seen.tried[f"requests {fate}"] += 1
        refusal = sim_providers.REFUSALS[int(self.random.random() * 3)]
        back = 3.0 if fate == "late" else 0.3 * self.random.random() ** 2
        return fate, refusal, way, back

    def taken(self, provider, call):
        """The provider tells later, once or twice, or never."""
        for _ in range(self.random.choice((0, 1, 1, 2))):
            outcome = self.random.choice((Outcome.DELIVERED, Outcome.DELIVERED, Outcome.ACCEPTED))
            told = self._tell(
                provider, Receipt(outcome=outcome, ref=call.ref), RECEIPTS_S * self.random.random() ** 2
            )
            self.loop.create_task(told, context=_within(self.api))

    async def _tell(self, provider, receipt, after):
        await asyncio.sleep(after)
        connected = self._connected.named(TENANT, provider.account.name)
        while True:
            with suppress(Unavailable):
                await self._callbacks.take(connected, [receipt])
                self.seen.tried["receipts"] += 1
                return
            await asyncio.sleep(1.0)

    def say(self, *what):
        """Note what happens; at some of these something else happens too."""
        trace = self.seen.trace
        trace.append((round(self.loop.time(), 6), *what))
        act = self._at.pop(len(trace), None)
        if act is not None and self.loop.time() < self.quiet_at:
            self._whose = PROCESS.get()
            self.loop.call_soon(self._act, *act, context=Context())

    # How the gateway's parts are made.

    async def accounts(self, stage):
        made = Accounts(
            store=_Rows(stage.accounts),
            credentials=stage.keys,
            load=sim_providers.ADAPTERS.__getitem__,
            tokens=None,
            public_url="https://gateway.example",
            callback_key=bytes(32),
        )
        await made.refresh()
        return made

    def desk(self, accounts, standings=dict):
        return Desk(
            catalog=self.stage.catalog,
            packs=self.stage.packs,
            stated=NONE,
            accounts=accounts,
            vault=self.stage.keys,
            entropy=self.stage.random_bytes,
            standings=standings,
        )

    # One schedule.

    def run(self):
        """To its end; what was seen."""
        sim_providers.Provider.world = self
        self.stage.entropy.seed(self.seed)
        self.stage.server.begin(self)
        try:
            self.loop.run(self._main())
        except StuckError as stuck:
            self.seen.wrong.append(str(stuck))
        finally:
            self.stage.server.end()
        return self.seen

    async def _main(self):
        self._deal()
        await self.loop.create_task(self._open(), context=_within(self.api))
        for _ in range(self.random.choice((2, 2, 3))):
            self._join(f"w{self.number()}")
        self._plan()
        await self._settled()
        self._judge()

    def _deal(self):
        """Which reminders there are, and when they are due."""
        singles = [one for one in self.stage.accepted if one[1].person not in PAIRS]
        pair = self.random.choice(list(PAIRS))
        chosen = self.random.sample(singles, self.random.randint(1, 3))
        if self.random.random() < 0.7:
            chosen += [one for one in self.stage.accepted if one[1].person == pair]
        self.reminders = dict(chosen)
        for name in self.reminders:
            due = self.random.choice((0.2, 0.2, 0.2, 3, 6)) * self.random.random()
            at = self.now_us() + round(due * 1e6)
            self.stage.server.say("UPDATE reminder SET next_at = ? WHERE id = ?", at, name)
            self.loop.call_later(due, self._ring, self.reminders[name].channel)
        self.seen.tried["reminders"] += len(chosen)

    async def _open(self):
        """What the API's process needs."""
        database = Database(self.stage.server)
        self._connected = await self.accounts(self.stage)
        self._intake = self.stage.intake(database, self.desk(self._connected))
        self._pauses = Pauses(
            *(database, self.stage.log, self.stage.random_bytes),
            channel_of=lambda adapter: sim_providers.CHANNELS[adapter].value,
            has_template=lambda _name: True,
            one_person=False,
        )
        self._callbacks = Callbacks(
            store=DispatchStore(database, self.stage.log),
            accounts=self._connected,
            texts=Texts(self.stage.keys),
            metrics=self.stage.metrics,
            public_url="https://gateway.example",
        )

    def _ring(self, channel):
        """The bell: one worker hears of it, or two, or none."""
        for worker in self.random.sample(
            self.workers, min(len(self.workers), self.random.choice((0, 1, 1, 2)))
        ):
            if hasattr(worker, "duties"):
                worker.runs(lambda drains=worker.drains: drains.start(channel))

    def _join(self, name):
        worker = Worker(self, name)
        self.workers.append(worker)
        worker.start()

    # Faults.

    def _plan(self):
        """What goes wrong, and when."""
        harsh = self.seed % 2
        for _ in range(self.random.randint(2, 4) if harsh else self.random.choice((0, 0, 1, 2))):
            self._commits[self.random.randint(3, 40)] = self.random.choice(("fails", "unheard", "unheard"))
        acts = {
            "kill": self._kill,
            "stop": self._stop,
            "cut off": self._cut_off,
            "drain": self._drain,
            "redis": self._no_redis,
            "clock": self._jump,
            "cancel": self._cancel,
            "paid": self._paid,
            "pause": self._pause,
        }
        for _ in range(self.random.randint(2, 5) if harsh else self.random.choice((0, 1, 1, 2))):
            name = self.random.choice(("kill", "kill", "stop", "stop", "cut off", *acts))
            act = name, acts[name]
            if self.random.random() < 0.7:
                self._at[self.random.randint(4, 30)] = act
            else:
                self.loop.call_later(FAULTS_S * self.random.random(), self._act, *act, context=Context())

    def _act(self, name, act):
        self.seen.tried[name] += 1
        self.say("act", name)
        act()

    def _one(self):
        """A worker that lives and runs; mostly whoever did just now what this happens at."""
        able = [w for w in self.workers if not w.process.dead and not w.process.stopped]
        whose = [w for w in able if w.process is self._whose]
        return self.random.choice(whose if whose and self.random.random() < 0.8 else able) if able else None

    def _cut(self, worker):
        self.in_flight += self.stage.server.calls_of(worker.process)
        self._cuts += 1

    def _kill(self):
        worker = self._one()
        if worker is not None:
            self._cut(worker)
            self.ends(worker)

    def ends(self, worker):
        """It is gone; another comes in its place."""
        worker.process.dead = True
        self.stage.server.gone(worker.process)
        self.loop.call_later(3 * self.random.random(), self._join, f"w{self.number()}", context=Context())

    def _stop(self):
        worker = self._one()
        if worker is None:
            return
        process, server = worker.process, self.stage.server
        self._cut(worker)
        self.loop.stop_process(process)
        self.loop.call_later(1.5, self._end_transaction, process)
        if self.random.random() < 0.6:  # the server, or what is between, ends its sessions
            self.loop.call_later(1.0, server.gone, process)
        self.loop.call_later(
            self.random.choice((1, 4, 14, 22)) * (0.5 + self.random.random()), self._go_on, process
        )

    def _end_transaction(self, process):
        """The server lets nobody wait for ever for one who says nothing."""
        holder = self.stage.server.holder
        if process.stopped and holder is not None and holder.process is process:
            holder.end("ROLLBACK")

    def _go_on(self, process):
        self.loop.go_on(process)
        if self.stage.server.holder is None:
            self.stage.server.next()

    def _cut_off(self):
        worker = self._one()
        if worker is not None:
            self._cut(worker)
            self._away[worker.process] = self.loop.time() + self.random.choice((1, 5, 15, 25))
            self.stage.server.gone(worker.process)

    def _drain(self):
        worker = self._one()
        able = worker is not None and hasattr(worker, "duties") and not worker.ends
        if able and len(self.workers) < 6:
            worker.ends = True
            self.loop.create_task(worker.drain(), context=_within(worker.process))
            self._join(f"w{self.number()}")

    def _no_redis(self):
        self._redis_until = self.loop.time() + 5

    def _jump(self):
        self._clock_s += self.random.choice((-200.0, -30.0, -3.0, 3.0, 30.0, 200.0))

    # What services and operators do.

    def _cancel(self):
        name, one = self.random.choice(list(self.reminders.items()))

        async def cancel():
            with suppress(Conflict):
                await self._intake.cancel(TENANT, name, {"reason": "a test"})
                self._stopped([one], "cancelled", at=self.loop.time(), slot=0.0)

        self._ask(cancel)

    def _paid(self):
        _, one = self.random.choice(list(self.reminders.items()))
        body = {"idempotency_key": f"paid-{self.number()}", "debt": one.debt, "type": "paid"}

        async def paid():
            (answer,) = await self._intake.events(TENANT, [body])
            assert isinstance(answer, Done), answer
            self._stopped([one], "paid", at=self.loop.time(), slot=SLOT_S)

        self._ask(paid)

    def _pause(self):
        channel = self.random.choice(("sms", "wechat", "email"))
        wanted = Wanted(
            key=f"pause-{self.number()}",
            kind=Kind.PAUSE,
            scope=PauseScope(quota=Scope(channel=channel)),
            until=None,
            ramp_s=0,
            reason="a test",
        )

        async def pause():
            await self._pauses.put(wanted, OPS)
            self._paused.append(channel)
            those = [one for one in self.reminders.values() if one.channel == channel]
            self._stopped(those, "paused", at=self.loop.time(), slot=SLOT_S)

        self._ask(pause)

    def _stopped(self, those, what, *, at, slot):
        self.say(what, [one.id for one in those])
        self.stops.append((at + slot, those, what))

    def _ask(self, act):
        async def surely():
            while True:
                with suppress(Unavailable):
                    await act()
                    return
                await asyncio.sleep(0.5)

        asked = self.loop.create_task(surely(), context=_within(self.api))
        self._asks.add(asked)
        asked.add_done_callback(self._asks.discard)

    # Time.

    def pause(self):
        """Between two rounds of a duty. Where nothing goes wrong any more nobody looks before there is something."""
        if not self.quiet:
            return 2.5 + 4 * self.random.random()
        return 0.5 + self.random.random() + min(600.0, max(0.0, (self._next_us() - self.now_us()) / 1e6))

    @property
    def quiet(self):
        """Whether nothing goes wrong any more, and all that did was noticed: hearts need not beat."""
        return self.loop.time() > self.quiet_at

    def _next_us(self):
        """When the store has something next."""
        (found,) = self.stage.server.say(_NEXT, json.dumps(self._paused))[0]
        return found if found is not None else self.now_us() + 600_000_000

    async def _settled(self):
        """Until nothing is under way, nothing is to be asked, and nothing is due that may go."""
        await asyncio.sleep(1.0)
        while self.loop.time() < FAULTS_S and self._under_way():  # noqa: ASYNC110 (an observer)
            await asyncio.sleep(0.5)
        while any(w.process.stopped or self.away(w.process) for w in self.workers):  # noqa: ASYNC110 (an observer)
            await asyncio.sleep(0.5)
        self.quiet_at = self.loop.time() + (JUDGED_S if self.in_flight or self._cuts else 0.0)
        while self._under_way():
            if self.loop.time() > BOUND_S:
                self.seen.wrong.append(f"not settled after {BOUND_S:.0f} s")
                return
            await asyncio.sleep(0.5 if self.loop.time() < self.quiet_at else 60.0)
        await asyncio.sleep(RECEIPTS_S)
        while (held := self.stage.server.holder is not None) or self._asks or self._under_way():  # noqa: ASYNC110
            await asyncio.sleep(0.01 if held else 0.5 if self._asks else 60.0)

    def _under_way(self):
        soon = self.now_us() + 7_200_000_000
        (open_,) = self.stage.server.say(_UNDER_WAY, json.dumps(self._paused), soon)[0]
        return open_

    def _judge(self):
        """What the ledger says of the promise."""
        sent = Counter(to for _, to, _ in self.ledger.taken)
        rows = {
            name: (state, reason)
            for name, state, reason in self.stage.server.say("SELECT id, state, reason FROM reminder")
            if name in self.reminders
        }
        refs = dict(self.stage.server.say("SELECT ref, reminder FROM attempt_ref"))
        self._nobody_twice(sent)
        for name, one in self.reminders.items():
            self._nothing_lost(one, rows, sent, [c for c in self.ledger.calls if refs[c.ref] == name])
        self._no_call_after_a_stop(refs)
        self._unknowns_are_explained()
        self.seen.wrong += [
            f"{w.process.name} broke: {w.going.exception()!r}" for w in self.workers if _broke(w)
        ]
        self.seen.wrong += [
            f"nobody took: {context.get('exception') or context}" for context in self.loop.broken
        ]
        self.seen.tried["sent"] += len(self.ledger.taken)
        self.seen.tried["dropped by the provider's own key"] += self.ledger.dropped

    def _nobody_twice(self, sent):
        persons = Counter()
        for one in {(one.person, one.to) for one in self.reminders.values()}:
            persons[one[0]] += sent[one[1]]
        self.seen.wrong += [
            f"person {person} was reached {n} times" for person, n in persons.items() if n > 1
        ]

    def _nothing_lost(self, one, rows, sent, calls):
        state, reason = rows[one.id_of(self.reminders)]
        self.seen.ends[state] += 1
        beside = [other for other in self.reminders.values() if other.person == one.person and other != one]
        reached = any(ref for _, _, ref in self.ledger.taken if ref in {c.ref for c in calls})
        why = {what for _, those, what in self.stops if one in those}
        if reached:
            good = {"sent", "delivered", "failed", "unknown"}
        else:
            good = {"cancelled": {"cancelled"}, "paid": {"suppressed"}, "paused": {"deferred", "waiting"}}
            good = {state for what in why for state in good[what]}
            if beside:
                good |= {"deferred"}
            if any(c.fate == "refused" for c in calls):
                good |= {"failed", "deferred"}
            if any(c.fate == "lost" for c in calls) or self.in_flight:
                good |= {"unknown", "failed"}
        if state not in good:
            said = "was reached" if reached else "was not reached"
            self.seen.wrong.append(f"{one.id} {said} and is {state} ({reason})")

    def _no_call_after_a_stop(self, refs):
        for since, those, what in self.stops:
            for call in self.ledger.calls:
                one = self.reminders[refs[call.ref]]
                if one in those and call.at > since and not self._asked_by_one_who_stood_still(call, since):
                    self.seen.wrong.append(f"{one.id} was called {call.at - since:.3f} s after it was {what}")

    def _asked_by_one_who_stood_still(self, call, since):
        """The way that docs/protocol.md leaves over: stopped between the guard and the same request again."""
        again = any(other.ref == call.ref and other.at < call.at for other in self.ledger.calls)
        return again and call.process.stood_still(since - SLOT_S, call.at)

    def _unknowns_are_explained(self):
        (unknown,) = self.stage.server.say("SELECT count(*) FROM attempt WHERE ending = 'unknown'")[0]
        unheard = sum(call.fate in ("lost", "swallowed", "late") for call in self.ledger.calls)
        self.seen.tried["unknown"] += unknown
        if unknown > unheard + self.in_flight:
            self.seen.wrong.append(f"{unknown} unknown of {unheard} without a reply and {self.in_flight} cut")


def _broke(worker):
    return worker.going.done() and not worker.process.dead and not worker.going.cancelled()


_MAY_GO = (
    "next_at IS NOT NULL AND substr(queue, 1, instr(queue, '|') - 1) NOT IN (SELECT value FROM json_each(?))"
)
_NEXT = f"""SELECT min(at) FROM (
 SELECT min(next_at) AS at FROM reminder WHERE {_MAY_GO}
 UNION ALL SELECT min(settle_at) FROM attempt WHERE state = 'unknown'
 UNION ALL SELECT min(deadline) FROM attempt WHERE state IN ('intent', 'calling'))"""
_UNDER_WAY = f"""SELECT (SELECT count(*) FROM attempt WHERE state IN ('intent', 'calling')
   OR (state = 'unknown' AND settle_at IS NOT NULL))
 + (SELECT count(*) FROM reminder WHERE state = 'sending' OR ({_MAY_GO} AND next_at < ?))"""


class _Rows:
    """Accounts as they stand, without a store."""

    def __init__(self, accounts):
        self._rows = [AccountRow(account=account, enabled=True, revision=1) for account in accounts]

    async def accounts(self):
        return self._rows
