"""The composition root: the only file that knows every concrete class."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol, cast

from sqlalchemy.engine import URL

import channels
from gateway import outcomes, own_packs
from gateway.accounts import AccountDesk, Accounts, parse
from gateway.api.services import Services
from gateway.asks import Asks
from gateway.backlog import Backlog
from gateway.deciding import Desk
from gateway.dispatch import Decider, Dispatch
from gateway.dispatch import DispatchStore as DrainStore
from gateway.domain import Mode, Tenant, ulid
from gateway.endings import Endings
from gateway.errors import Fault, PolicyError, SetupError, Unavailable
from gateway.followup import FollowUp
from gateway.intake import Intake
from gateway.intake.asks import IntakeStore as IntakeSeam
from gateway.live import Live
from gateway.pace.redis import RedisPace
from gateway.pace.sql import SqlPace
from gateway.pace.switch import Switch
from gateway.planning import Planning
from gateway.policy.calendars import Calendars
from gateway.policy.content import blocks
from gateway.policy.explain import sentences
from gateway.policy.lasting import calendars_named, calendars_of_residence, reviews_due
from gateway.policy.model import Cap
from gateway.policy.overrides import NONE, Overrides, parse_overrides
from gateway.policy.packs import Packs, load
from gateway.policy.parse import shipped_texts
from gateway.ports import Adapter
from gateway.probing import Probing
from gateway.receipts import Callbacks
from gateway.reconcile import Reconcile
from gateway.rooms import Rooms
from gateway.sendlog.record import LogKeys
from gateway.settings import RedisTarget, Settings
from gateway.starts import Starts, StartStore
from gateway.store import migrate
from gateway.store.accounts import AccountRows
from gateway.store.asks import AskStore
from gateway.store.assignments import Assignments
from gateway.store.audit import AuditStore
from gateway.store.audits import Audits
from gateway.store.backlog import BacklogStore
from gateway.store.database import Database
from gateway.store.dispatch import DispatchStore
from gateway.store.failover import Failover
from gateway.store.followup import FollowUps
from gateway.store.intake import IntakeStore
from gateway.store.journal import Journal, NoJournal
from gateway.store.keys import Operator, Setup
from gateway.store.live_config import LiveRows
from gateway.store.log import Log
from gateway.store.owners import Owners
from gateway.store.pace import Sources
from gateway.store.pack_texts import PackTexts
from gateway.store.pauses import Pauses
from gateway.store.plan import PlanStore
from gateway.store.poison import Replays
from gateway.store.quota_acts import Quotas
from gateway.store.reads import Reads
from gateway.store.standing import Standings
from gateway.store.top import Top
from gateway.store.tuned import TunedRows
from gateway.store.unknowns import UnknownRows
from gateway.store.workers import Workers
from gateway.sweep import Sweep
from gateway.telemetry import Metrics
from gateway.templating import Catalog
from gateway.templating.approve import approve
from gateway.texts import Texts
from gateway.tokens import RedisTokens, connect
from gateway.unknowns import Unknowns
from gateway.upkeep import Upkeep
from gateway.vault import BlindIndex, KeyRing, KeyUse, Vault
from gateway.wake import Bell, Drains, Listener
from gateway.watch import Watch
from gateway.whatif import WhatIf

OPERATOR = "operator"
"""Who acts where no key says it: whoever has the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where this process finds what it needs. `redis` None: no wake-ups, the sweep alone."""

    settings: Settings
    ring: KeyRing
    redis: RedisTarget | None
    public_url: str
    quarantine: timedelta = outcomes.QUARANTINE

    @property
    def rings(self) -> RedisTarget | None:
        """Where wake-ups go through: arq speaks to no cluster (github.com/python-arq/arq/issues/358)."""
        return self.redis if self.redis is not None and self.redis.kind != "cluster" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """The parts of a worker (gateway.worker.Parts)."""

    accounts: Accounts
    dispatch: Dispatch
    drains: Drains
    sweep: Sweep
    reconcile: Reconcile
    owners: Owners
    listener: Listener | None
    backlog: Backlog
    watch: Watch
    followup: FollowUp
    live: Live
    pace: Switch
    probing: Probing
    upkeep: Upkeep


class Silent:
    """A bell that nobody hears."""

    def ring(self, channels: object) -> None:
        """Nothing: the sweep comes."""


class SendStore(StartStore, DrainStore, Protocol):
    """The store, as whoever sends uses it."""


LEAST_FREE = 1024 * 1024
"""Bytes on the disk of the data folder below which this process is not ready."""


class Health:
    """Whether the store answers and can take more (gateway.api.services.Health)."""

    def __init__(self, database: Database, data: Path) -> None:
        self._db = database
        self._data = data
        self.draining = False

    async def missing(self) -> Mapping[str, str]:
        """What is not there. Redis is only the bell: without it nothing is lost, so it is no reason."""
        found: dict[str, str] = {}
        try:
            await migrate.check(self._db)
        except Unavailable as lost:
            found["store"] = lost.message
        except SetupError as old:
            found["schema"] = old.message
        if self._db.sqlite and shutil.disk_usage(self._data).free < LEAST_FREE:
            found["disk"] = "the disk of the data folder is all but full: free some space"
        if self.draining:
            found["draining"] = "this process ends: ask another"
        return found


class Gateway:
    """One process's parts, built once. Build it within a running loop; close it when done."""

    def __init__(self, place: Place) -> None:
        settings = place.settings
        self.place = place
        self.metrics = Metrics()
        self.database = Database(settings.database)
        self.vault = Vault(settings.vault, place.ring)
        self.log_keys = LogKeys(
            pseudonyms=place.ring.derive(KeyUse.LOG_PSEUDONYM),
            commitments=place.ring.derive(KeyUse.LOG_COMMITMENT),
        )
        self.log = Log(self.vault, self.log_keys, secrets.token_bytes)
        self.catalog = Catalog.load(settings.templates)
        self.overrides = load_overrides(settings.calendars)
        self.packs = load_packs(settings.packs)
        _approve(self.catalog, self.packs)
        _count_days(self.metrics, self.packs, self.overrides.calendars)
        self._redis = connect(place.redis) if place.redis else None
        self._tokens = RedisTokens(self._redis, time.monotonic)
        self._blinds = BlindIndex(place.ring)
        self.bell: Bell | Silent = Bell(place.rings, time.time) if place.rings else Silent()
        self.account_rows = AccountRows(self.database, self.log, new_id)
        self.accounts = Accounts(
            store=self.account_rows,
            credentials=self.vault,
            load=channels.load,
            tokens=self._tokens,
            public_url=place.public_url,
            callback_key=place.ring.derive(KeyUse.CALLBACK_TOKEN),
        )
        self.standings = Standings(self.database)
        self.account_desk = AccountDesk(self.accounts, self.account_rows, self.vault, self.standings)
        self.live = Live(LiveRows(self.database), time.monotonic)
        self.desk = Desk(
            catalog=self.catalog,
            packs=self.packs,
            stated=self.overrides,
            accounts=self.accounts,
            vault=self.vault,
            entropy=secrets.token_bytes,
            standings=self.live.standings,
        )
        self.texts = Texts(self.vault)
        self.pack_texts = PackTexts(self.database, self.log, secrets.token_bytes)
        self.store = DispatchStore(self.database, self.log)
        self._paces = RedisPace(place.redis) if place.redis else None
        self.pace = Switch(
            sql=SqlPace(self.database),
            redis=self._paces,
            sources=Sources(self.database),
            word=lambda: self.live.word,
            monotonic=time.monotonic,
        )
        self.setup = self._setup(self.database)
        self.pauses = Pauses(
            self.database,
            self.log,
            secrets.token_bytes,
            channel_of=channel_of,
            has_template=lambda name: self.catalog.get(name) is not None,
            one_person=settings.one_person,
        )
        self.quotas = Quotas(self.database, self.log, secrets.token_bytes, channel_of=channel_of)
        self.failover = Failover(self.database, self.log, secrets.token_bytes, ways=self.accounts.ways)
        self.backlog = Backlog(BacklogStore(self.database), self.metrics)
        self.watch = Watch(TunedRows(self.database, channel_of), self.metrics)
        self.health = Health(self.database, settings.data)

    def _setup(self, database: Database) -> Setup:
        return Setup(
            database,
            self.log,
            blinds=self._blinds,
            entropy=secrets.token_bytes,
            monotonic=time.monotonic,
        )

    def _intake(self, store: IntakeSeam, wake: Bell | Silent) -> Intake:
        return Intake(
            store=store,
            vault=self.vault,
            blinds=self._blinds,
            catalog=self.catalog,
            bindings=self.desk,
            wake=wake,
            entropy=secrets.token_bytes,
        )

    def services(self) -> Services:
        """What the API's routes call."""
        log = AuditStore(self.database, self.vault, self.log_keys)
        unknown_rows = UnknownRows(self.database, self.log, vault=self.vault, entropy=secrets.token_bytes)
        return Services(
            intake=self._intake(IntakeStore(self.database, self.log), self.bell),
            reads=Reads(self.database, self.vault, channel_of),
            top=Top(self.database),
            unknowns=Unknowns(unknown_rows, self.accounts),
            unknown_rows=unknown_rows,
            replays=Replays(self.database, self.log, secrets.token_bytes),
            workers=Workers(self.database, self.log, secrets.token_bytes),
            setup=self.setup,
            setup_aside=self._setup(self.database.aside()),
            pauses=self.pauses,
            quotas=self.quotas,
            planning=Planning(PlanStore(self.database), self.desk),
            assignments=Assignments(self.database, self.log, secrets.token_bytes),
            asks=Asks(
                store=AskStore(self.database, self.log),
                desk=self.desk,
                intake=lambda store: self._intake(store, Silent()),
                blind=self._blinds.blind,
                entropy=secrets.token_bytes,
            ),
            simulation=WhatIf(
                log=log,
                accounts=self.accounts,
                packs=self.packs,
                calendars=self.overrides.calendars,
                monotonic=time.monotonic,
            ),
            audits=Audits(log, self.pack_texts, self.overrides.calendars),
            callbacks=Callbacks(
                store=self.store,
                accounts=self.accounts,
                texts=self.texts,
                metrics=self.metrics,
                public_url=self.place.public_url,
            ),
            accounts=self.account_desk,
            admission=self.backlog,
            health=self.health,
            metrics=self.metrics,
            wake=self.bell,
            explain=lambda decision, lang: "\n".join(sentences(decision, lang)) + "\n",
            caps=shipped_caps(self.packs),
            packs=frozenset() if isinstance(self.packs, PolicyError) else frozenset(p.id for p in self.packs),
            clock_movable=self.place.settings.policy_offset_allowed,
            entropy=secrets.token_bytes,
            monotonic=time.monotonic,
        )

    def worker(self) -> Worker:
        """The parts of a worker."""
        blocks()  # made once, which takes half a second: no reminder shall wait for it
        direct = self.place.settings.database_direct_url or self.place.settings.database
        owners = Owners(
            self.database,
            owner_id=new_id("ow_"),
            lock_key=secrets.randbits(62),
            direct_url=None if self.database.sqlite else _dsn(direct),
            place=f"{socket.gethostname()}:{os.getpid()}",
        )
        dispatch = self.dispatch(owners, self.store)
        drains = Drains(dispatch.drain)
        return Worker(
            accounts=self.accounts,
            dispatch=dispatch,
            drains=drains,
            sweep=Sweep(
                store=self.store,
                graves=owners,
                accounts=self.accounts,
                wake=drains.start,
                metrics=self.metrics,
                jitter=lambda: secrets.randbelow(1000) / 1000,
                quarantine=self.place.quarantine,
            ),
            reconcile=Reconcile(
                store=self.store,
                graves=owners,
                accounts=self.accounts,
                texts=self.texts,
                links=self.accounts.address,
                metrics=self.metrics,
            ),
            owners=owners,
            live=self.live,
            pace=self.pace,
            listener=Listener(self.place.rings, drains, longest_call_s=self.accounts.longest_call_s())
            if self.place.rings
            else None,
            backlog=self.backlog,
            watch=self.watch,
            followup=FollowUp(
                store=FollowUps(self.database, self.log, secrets.token_bytes),
                graves=owners,
                accounts=self.accounts,
            ),
            probing=Probing(store=self.standings, leads=owners, accounts=self.accounts),
            upkeep=Upkeep(store=self.quotas, graves=owners),
        )

    def dispatch(self, owner: Decider, store: SendStore) -> Dispatch:
        """What decides and calls for an owner."""
        endings = Endings(store, self.place.quarantine)
        journal = self.place.settings.journal
        starts = Starts(
            store=store,
            journal=NoJournal() if journal is None else Journal(journal, owner.id, time.time),
            grants=self.pace,
            live=self.live,
            owner=owner,
            endings=endings,
            metrics=self.metrics,
            links=self.accounts.address,
        )
        return Dispatch(
            store=store,
            desk=self.desk,
            owner=owner,
            live=self.live,
            rooms=Rooms(live=self.live, desk=self.desk, grants=self.pace, starts=starts, worker=owner.id),
            starts=starts,
            endings=endings,
            metrics=self.metrics,
            one_writer=self.database.sqlite,
        )

    async def keep_packs(self) -> None:
        """Let whoever looks at a decision later find the text of each pack in use, as it is now."""
        if isinstance(self.packs, PolicyError):
            return
        folder = self.place.settings.packs
        own = () if folder is None else await asyncio.to_thread(own_packs.read, folder)
        await self.pack_texts.keep(self.packs, [text for _, text in (*shipped_texts(), *own)], OPERATOR)

    async def import_accounts(self, path: Path, who: str = OPERATOR) -> list[str]:
        """Bring in an accounts.toml; tenants it names are made."""
        text = await asyncio.to_thread(path.read_text, "utf-8")
        found = parse(text, adapters=channels.names(), environ=os.environ)
        there = {tenant["name"] for tenant in await self.setup.tenants(None)}
        for name in sorted({account.tenant.split("/")[0] for account in found} - there):
            await self.setup.create_tenant(name, Operator(who=who, tenant=Tenant(f"{name}/{Mode.LIVE}")))
        return await self.account_desk.bring_in(found, who=who, reason=f"read from {path.name}")

    async def aclose(self) -> None:
        """Close everything, last things first."""
        await self.accounts.aclose()
        if isinstance(self.bell, Bell):
            await self.bell.aclose()
        if self._redis is not None:
            await self._redis.aclose()
        if self._paces is not None:
            await self._paces.aclose()
        await self.database.aclose()
        await self.vault.aclose()


def _dsn(url: URL) -> str:
    """A PostgreSQL URL as the driver itself takes it, where TLS is asked for by libpq's own word."""
    mode = url.query.get("ssl")
    plain = url.set(drivername="postgresql").difference_update_query(["ssl"])
    return (plain.update_query_dict({"sslmode": mode}) if mode else plain).render_as_string(
        hide_password=False
    )


def new_id(prefix: str) -> str:
    """A fresh id of this instant."""
    return ulid(prefix, time.time_ns() // 1000, secrets.token_bytes(10))


def channel_of(adapter: str) -> str:
    """The channel that an adapter serves."""
    return cast("type[Adapter]", channels.load(adapter)).channel.value


def load_packs(folder: Path | None) -> Packs:
    """The shipped packs and those of a deployment's folder, or why none can be had: then nothing is sent."""
    try:
        return load(() if folder is None else own_packs.read(folder))
    except PolicyError as wrong:
        return wrong


def _approve(catalog: Catalog, packs: Packs) -> None:
    """BadInput when an approved template breaks rules on content of the places that it names."""
    if not isinstance(packs, PolicyError):
        approve(catalog.templates.values(), packs, today=_today())


def load_overrides(path: Path | None) -> Overrides:
    """What GATEWAY_CALENDARS states; PolicyError names every mistake, or why the file cannot be read."""
    if path is None:
        return NONE
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        why = wrong.strerror or "it is no file" if isinstance(wrong, OSError) else "save it as UTF-8"
        fault = Fault(
            at=str(path), code="unreadable", message=f"this cannot be read: {why}; see GATEWAY_CALENDARS"
        )
        raise PolicyError([fault]) from None
    return parse_overrides(source, str(path))


def _count_days(metrics: Metrics, packs: Packs, calendars: Calendars) -> None:
    """Let each scrape say how long what the packs rest on lasts, by the real clock."""
    if isinstance(packs, PolicyError):
        return
    named = calendars_named(packs)
    for name in sorted(named | calendars_of_residence(packs, calendars, _today())):
        by = "rule" if name in named else "residence"
        metrics.calendar(name, by, partial(_days_left, calendars, name))
    for pack, due in reviews_due(packs, _today()).items():
        metrics.review(pack, partial(_days_until, due))


def _days_left(calendars: Calendars, name: str) -> int:
    return calendars.days_left(name, _today().toordinal())


def _days_until(day: date) -> int:
    return (day - _today()).days


def _today() -> date:
    return datetime.now(UTC).date()


def shipped_caps(packs: Packs) -> dict[str, int]:
    """The numbers of OP.CAPS and of what providers allow, as they ship: no law's, so a tenant may have its own."""
    if isinstance(packs, PolicyError):
        return {}
    tuned = [pack for pack in packs if pack.id == "OP.CAPS" or pack.id.startswith("PROVIDER.")]
    return {rule.id: rule.max for pack in tuned for rule in pack.rules if isinstance(rule, Cap)}
