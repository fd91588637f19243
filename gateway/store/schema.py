"""The tables: one schema for SQLite and PostgreSQL.

Instants are integer microseconds since 1970 UTC; dates are ISO text; money is decimal text beside its
currency; `tenant` is `name/mode` (gateway.domain.Tenant) and stands in every primary key. Columns that end in
`_enc` are sealed by the vault under the borrower's own key. `attempt` and `record` are partitioned by
month on PostgreSQL, so whatever must be unique or found without a date has a table of its own
(`attempt_ref`, `idempotency`).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    event,
    text,
)

from gateway.store.rollups import ROLLUPS

metadata = MetaData()


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null, primary_key=key)


_WAITS: dict[str, Any] = {
    f"{dialect}_where": text("next_at IS NOT NULL") for dialect in ("sqlite", "postgresql")
}
"""Only rows that wait for something."""


def _instant(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null, primary_key=key, autoincrement=False)


tenant = Table(
    "tenant",
    metadata,
    _text("name", key=True),
    _instant("created_at"),
    Column("stale_after_s", Integer, nullable=False, server_default="86400"),
)
"""One lender or team. `stale_after_s`: older states of a debt hold its reminders."""

api_key = Table(
    "api_key",
    metadata,
    _text("id", key=True),
    _text("tenant"),  # a tenant's name, or * for the deployment's own
    _text("mode"),
    _text("role"),
    _text("holder"),
    Column("secret_hash", LargeBinary, nullable=False),
    _instant("created_at"),
    _instant("expires_at", null=True),
    _instant("revoked_at", null=True),
)

change = Table(
    "change",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _instant("at"),
    _text("who"),
    _text("kind"),
    _text("name"),
    _text("before", null=True),
    _text("after", null=True),
    _text("reason"),
)
"""Every change of configuration: who, when, before, after (JSON without secrets), reason."""

account = Table(
    "account",
    metadata,
    _text("tenant", key=True),
    _text("name", key=True),
    _text("adapter"),
    _text("endpoint", null=True),
    _text("sender"),
    _text("price_amount", null=True),
    _text("price_currency", null=True),
    _text("settings"),  # JSON object of strings
    Column("weight", Integer, nullable=True),  # of this tenant where the account is shared; null: its own
    Column("enabled", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    _instant("updated_at"),
)

template_approval = Table(
    "template_approval",
    metadata,
    _text("tenant", key=True),
    _text("template", key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    _text("content_hash", key=True),
    Column("approved", Boolean, nullable=False),
    _instant("at"),
    _text("who"),
)

pack_override = Table(
    "pack_override",
    metadata,
    _text("tenant", key=True),
    _text("rule", key=True),
    Column("max", Integer, nullable=False),
    _instant("at"),
    _text("who"),
    _text("reason"),
)
"""A tenant's own number in a rule of OP.CAPS; setting one is a recorded act."""

policy_assignment = Table(
    "policy_assignment",
    metadata,
    _text("tenant", key=True),
    _text("portfolio", key=True),  # empty: the whole tenant
    Column("version", Integer, primary_key=True, autoincrement=False),
    _text("licences"),  # JSON list of ISO 3166 places
    _text("institution", null=True),
    _text("packs"),  # JSON list of packs' ids
    _instant("at"),
    _text("who"),
    _text("reason"),
)
"""Which packs are added for a tenant or a portfolio. Rows are only added; the newest version is in force."""

pack_text = Table(
    "pack_text",
    metadata,
    _text("sha256", key=True),
    _text("pack"),
    _text("version"),
    _text("text"),
    _instant("at"),
)
"""The TOML of every pack that was ever in use, by its digest; decisions name packs by it."""

pack_set = Table(
    "pack_set",
    metadata,
    _text("sha256", key=True),
    _text("packs"),  # JSON list of {pack, version, sha256}
    _instant("at"),
)
"""Which packs were in use together, by the digest of the list; each decision's record names one."""

ground = Table(
    "ground",
    metadata,
    _text("sha256", key=True),
    _text("said"),  # canonical JSON {findings, packs, zones}
    _instant("at"),  # when it was first rested on
)
"""What decisions rest on, by its digest: those of people who are alike rest on the same, and name it by this."""

clock = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("offset_us", BigInteger, nullable=False),
)
"""One row: how far the policy clock of a test deployment stands from the database's."""

owner = Table(
    "owner",
    metadata,
    _text("id", key=True),
    Column("lock_key", BigInteger, nullable=False),
    _instant("started_at"),
    _instant("heartbeat_at"),
    _instant("dead_at", null=True),
    Column("applied", BigInteger, nullable=False, server_default="0"),  # the configuration it works by
    _text("place", null=True),  # host and process, for humans
    _instant("quiet_at", null=True),  # from then on it shall take nothing new
    _text("taking", null=True),  # JSON {tenant: [reminder]}: what it decided on last, or does now
    _instant("taken_at", null=True),  # policy clock, before it began to
)
"""A worker process that may hold intents."""

suspect = Table(
    "suspect",
    metadata,
    _text("tenant", key=True),
    _text("reminder", key=True),
    Column("strikes", SmallInteger, nullable=False),
    _text("owner", null=True),  # who tries it alone now
    _instant("at"),  # when it was last tried, or came under suspicion
)
"""Reminders on which a process may have ended; a row goes when its reminder was decided on."""

lease = Table(
    "lease",
    metadata,
    _text("name", key=True),
    _text("owner"),
    _instant("until"),
)
"""Which worker leads a duty that only one may do (sweep, reconcile)."""

person = Table(
    "person",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _instant("created_at"),
)
"""Borrowers who share a phone (not a workplace's) or an id number; the row that caps lock."""

identity = Table(
    "identity",
    metadata,
    _text("tenant", key=True),
    Column("blind", LargeBinary, primary_key=True),
    _text("person"),
)
"""A blind index of a phone or id number → the person it belongs to."""

borrower = Table(
    "borrower",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _text("person"),
    _text("profile"),  # JSON: what a PUT of it carries, but for names, numbers and addresses
    Column("pii_enc", LargeBinary, nullable=False),  # JSON: name national_id
    Column("revision", Integer, nullable=False),
    _instant("updated_at"),
    Index("borrower_person", "tenant", "person"),
)

address = Table(
    "address",
    metadata,
    _text("tenant", key=True),
    _text("borrower", key=True),
    _text("channel", key=True),
    Column("blind", LargeBinary, primary_key=True),
    Column("position", SmallInteger, nullable=False),
    Column("value_enc", LargeBinary, nullable=False),
    _text("kind"),
    _text("country", null=True),  # ISO 3166 of a phone number
    _text("zones"),  # JSON: where a phone number may be, and how well it is known
    _instant("dead_at", null=True),
    Index("address_blind", "tenant", "blind"),
)

debt = Table(
    "debt",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _text("borrower"),
    _text("creditor"),
    _text("product"),
    _text("portfolio", null=True),
    _text("debtor_kind"),
    _text("due_date"),
    _text("amount"),
    _text("currency"),
    _text("governing_law", null=True),
    _text("state"),
    _instant("state_at"),
    _text("until", null=True),  # the promised date
    _text("policy_facts"),  # JSON object
    Column("revision", Integer, nullable=False),
    _instant("updated_at"),
    Index("debt_borrower", "tenant", "borrower"),
)

debt_event = Table(
    "debt_event",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _text("debt"),
    _text("type"),
    _instant("at"),
    _text("amount", null=True),
    _text("currency", null=True),
    _text("until", null=True),
    _text("reason"),
    _instant("recorded_at"),
    Index("debt_event_debt", "tenant", "debt", "at"),
)

live = Table(
    "live",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    _text("source"),  # which grants the pace: redis | sql
    Column("epoch", BigInteger, nullable=False),
    _instant("since"),  # real time of the last switch
    Column("hold_s", Integer, nullable=False),  # seconds until it may be switched back, doubled by each flap
    _text("server", null=True),  # whose commits these are (gateway.store.server); null: not written down yet
    _instant("frozen_at", null=True),  # real time at which another server was first seen to answer
)
"""One row. `seq` counts changes of what ops change live (quotas, pauses, standings): workers poll it and say how far
they are (`owner.applied`)."""

quota = Table(
    "quota",
    metadata,
    _text("owner", key=True),  # name/mode of a tenant, or */mode
    _text("name", key=True),
    _text("spec"),  # JSON as in `PUT /v1/quotas/{name}`, without until, version and reason
    _text("before", null=True),  # JSON of what holds again at `until`; null: nothing
    _instant("until", null=True),
    Column("version", Integer, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("gone", Boolean, nullable=False),  # unset; the row keeps its version
    _text("set_by"),
    _instant("set_at"),
    _text("reason"),
)
"""Quotas as ops set them; their history stands in `change`."""

pause = Table(
    "pause",
    metadata,
    _text("owner", key=True),
    _text("id", key=True),
    _text("kind"),  # pause | stop
    _text("scope"),  # JSON object
    _instant("until", null=True),  # policy clock
    _text("reason"),
    _text("set_by"),
    _text("set_role"),
    _instant("at"),  # real time
    Column("seq", BigInteger, nullable=False),
    _text("asked_by", null=True),  # who asked to resume a stop first
    _instant("asked_at", null=True),
    _text("resumed_by", null=True),
    _instant("resumed_at", null=True),
    Column("ramp_s", Integer, nullable=False, server_default="0"),
    Column("waiting", BigInteger, nullable=True),  # how many it stopped, counted after its commit
    Column("expires_meanwhile", BigInteger, nullable=True),
    _text("calling"),  # JSON list of refs that were with a provider at the commit
    _text("recalled"),  # JSON list of those that the provider took back
    _text("may_arrive"),  # JSON list of those that it did not
    Column("followed", Boolean, nullable=False, server_default="0"),  # the recalls were tried
    Index("pause_resumed", "resumed_at"),
)
"""Pauses and stops: one table, one guard. go reads those that are not resumed under a shared advisory lock."""

standing = Table(
    "standing",
    metadata,
    _text("pool", key=True),  # owner|account (gateway.quotas.model.pool_of)
    _text("state"),  # JSON (gateway.standing): breaker, throttle, closed until
    Column("down", Boolean, nullable=False),  # its breaker is not closed
    _instant(
        "clears_at", null=True
    ),  # real time at which the provider's own queue is empty, as far as we know
    Column("seq", BigInteger, nullable=False),
)
"""How each account stands: breaker, throttle, a day that is used up. Read by go."""

quota_count = Table(
    "quota_count",
    metadata,
    _text("bucket", key=True),  # gateway.quotas.model.Bucket.key
    _text("span", key=True),  # slice (5 s) | minute | day | month
    _instant("start", key=True),
    Column("units", BigInteger, nullable=False),
    Column("micros", BigInteger, nullable=False),  # money, in millionths of the budget's currency
    Index("quota_count_start", "span", "start"),
)
"""What was started, counted in go's transaction. Day and month begin in the quota's own zone."""

pace = Table(
    "pace",
    metadata,
    _text("key", key=True),  # a bucket, or `domain|pool` for the dealing among tenants
    Column("epoch", BigInteger, nullable=False),
    _text("state"),  # JSON (gateway.quotas.dealing)
)
"""Buckets of rates, while SQL grants the pace."""


idempotency = Table(
    "idempotency",
    metadata,
    _text("tenant", key=True),
    _text("route", key=True),
    _text("key", key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    _instant("at"),
)
"""The first answer to a key, byte for byte, kept as long as what it created."""

reminder = Table(
    "reminder",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _text("key"),
    _text("state"),
    _text("reason", null=True),
    _text("by", null=True),
    _text("person"),
    _text("borrower"),
    _text("debt"),
    _text("due_date"),  # the debt's when last seen; part of what makes a duplicate
    _text("queue"),  # channel|tenant|template|priority: what waits together
    _text("channel"),  # under which it waits: the first of `channels` with an address
    _text("channels"),  # JSON list
    _text("purpose"),
    _text("actor_role"),
    _text("actor_id"),
    _text("recipient_role"),
    _text("template"),
    Column("template_version", Integer, nullable=False),
    Column("facts_enc", LargeBinary, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    _text("segment", null=True),
    _text("value", null=True),
    _instant("not_before", null=True),
    _instant("expires_at"),
    _text("anchor", null=True),  # JSON {due, at}
    Column("repeat", Boolean, nullable=False),
    _text("escalate"),  # JSON list of {after_s, channel}
    Column("step", SmallInteger, nullable=False, server_default="0"),  # escalations already begun
    _instant("next_at", null=True),  # when to decide next; null: nothing to do
    Column("called", Boolean, nullable=False, server_default="0"),  # go and cancel are judged by this
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("tries", Integer, nullable=False, server_default="0"),  # hand-overs that were refused
    _text("attempt", null=True),  # ref of the latest
    _text("decision", null=True),  # JSON of the latest, with the digest of its ground
    _text("portfolio", null=True),  # of the debt when accepted
    _text("places"),  # JSON list: the borrower's residence and the debt's governing law when accepted
    _instant("accepted_at"),
    _instant("updated_at"),
    Index("reminder_due", "queue", "next_at", "accepted_at", **_WAITS),
    Index("reminder_debt", "tenant", "debt", "template", "accepted_at"),
    Index("reminder_borrower", "tenant", "borrower", "accepted_at"),
    Index("reminder_person", "tenant", "person"),
    Index("reminder_person_due", "tenant", "person", "next_at", **_WAITS),
    Index("reminder_put_off", "by", "next_at", **_WAITS),
    postgresql_with={"fillfactor": 40},
)
"""Written four times on its way out. Three of these touch no index while its page has room for another version."""

backlog = Table(
    "backlog",
    metadata,
    _text("tenant", key=True),
    _text("queue", key=True),
    _text("state", key=True),
    _text("reason", key=True),  # empty: none
    _instant("minute", key=True),  # the end of the minute that `next_at` falls into; -1: it waits for nothing
    Column("number", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How many reminders stand where, kept by triggers with the rows themselves (gateway.store.rollups): what anybody
asks of the backlog is read from here, never counted in `reminder`."""

backlog_delta = Table(
    "backlog_delta",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _text("tenant"),
    _text("queue"),
    _text("state"),
    _text("reason"),
    _instant("minute"),
    Column("number", BigInteger, nullable=False),
)
"""What statements moved that is not in `backlog` yet: on PostgreSQL many write at once, and none waits for another."""

attempt_ref = Table(
    "attempt_ref",
    metadata,
    _text("ref", key=True),
    _text("tenant"),
    _instant("started_at"),
    _text("reminder", null=True),
    _text("adapter"),
    _text("account"),
    _text("provider_id", null=True),
    Index("attempt_provider", "adapter", "account", "provider_id"),
)
"""Makes refs unique and finds an attempt by its ref or the provider's id, over all months."""

attempt = Table(
    "attempt",
    metadata,
    _text("tenant", key=True),
    _text("ref", key=True),
    _instant("started_at", key=True),
    _text("reminder", null=True),  # null: a contact made elsewhere
    _text("origin"),  # gateway | contact
    _text("person"),
    _text("borrower"),
    _text("debt"),
    _text("creditor"),
    _text("channel"),
    _text("adapter", null=True),
    _text("account", null=True),
    _text("address", null=True),  # hex of its blind index
    _text("recipient_role"),
    _text("actor_role"),
    _text("actor_id", null=True),
    _text("technology", null=True),  # of a call: live prerecorded ai_voice
    _text("flags"),  # JSON list
    _text("state"),  # intent calling void, then an outcome's word
    _instant("final_at", null=True),  # from then on the outcome cannot change
    Column("fence", Integer, nullable=False, server_default="0"),
    _text("owner", null=True),
    _instant("deadline", null=True),  # real time: the permit's end for an intent, the call's for a calling
    _instant("settle_at", null=True),  # real time: when reconcile looks at an unknown next; null: parked
    Column("settle_tries", SmallInteger, nullable=False, server_default="0"),
    Column("borrower_revision", Integer, nullable=True),  # as T1 read them; go refuses when they moved on
    Column("debt_revision", Integer, nullable=True),
    _instant("called_at", null=True),
    _instant("ended_at", null=True),
    Column("segments", SmallInteger, nullable=False, server_default="1"),
    _text("price_amount", null=True),
    _text("price_currency", null=True),
    _text("ending", null=True),  # the hand-over's class
    _text("code", null=True),
    _text("provider_id", null=True),
    _text("template", null=True),
    Column("template_version", Integer, nullable=True),
    _text("language", null=True),
    _text("text_hash", null=True),
    Column("text_enc", LargeBinary, nullable=True),  # JSON {text, second, subject}
    Index("attempt_person", "tenant", "person", "started_at"),
    Index("attempt_reminder", "tenant", "reminder"),
    Index("attempt_state", "state", "deadline"),
    postgresql_partition_by="RANGE (started_at)",
)

reservation = Table(
    "reservation",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _text("person"),
    _text("borrower"),
    _text("debt"),
    _text("creditor"),
    _text("channel"),
    _text("address", null=True),
    _text("recipient_role"),
    _text("actor_id", null=True),
    _instant("at"),
    _instant("until"),
    _instant("used_at", null=True),  # a contact named it
    Index("reservation_person", "tenant", "person", "until"),
)
"""A place in the caps kept by `contacts/check` until it runs out or a contact names it."""

record = Table(
    "record",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _instant("at", key=True),
    _text("kind"),
    _text("reminder", null=True),
    _text("attempt", null=True),
    _text("borrower", null=True),
    _text("channel", null=True),
    _text("state", null=True),
    _text("reason", null=True),
    Column("leaf", LargeBinary, nullable=False),
    Column("log_index", BigInteger, nullable=True),
    Index("record_reminder", "tenant", "reminder", "at"),
    Index("record_borrower", "tenant", "borrower", "at"),
    Index("record_at", "tenant", "at", "id"),
    postgresql_partition_by="RANGE (at)",
)
"""The send log. `leaf` is final when written; the other columns only serve to find it."""

record_side = Table(
    "record_side",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _text("borrower", null=True),
    Column("side_enc", LargeBinary, nullable=False),
)
"""Salts and clear values behind a record's commitments, sealed under the borrower's key."""

record_outbox = Table(
    "record_outbox",
    metadata,
    _text("tenant", key=True),
    _text("id", key=True),
    _instant("at"),
)
"""Records that have no place in the log yet."""

for _parted in (attempt, record):
    event.listen(
        _parted,
        "after_create",
        DDL(  # type: ignore[no-untyped-call]  # SQLAlchemy ships it untyped
            "CREATE TABLE %(table)s_default PARTITION OF %(table)s DEFAULT"
        ).execute_if(dialect="postgresql"),
    )

FIRST_LIVE = "INSERT INTO live (id, seq, source, epoch, since, hold_s) VALUES (1, 0, 'sql', 1, 0, 5)"
event.listen(live, "after_create", DDL(FIRST_LIVE))  # type: ignore[no-untyped-call]

for _dialect, _statements in ROLLUPS.items():
    for _statement in _statements:
        event.listen(
            metadata,
            "after_create",
            DDL(_statement).execute_if(dialect=_dialect),  # type: ignore[no-untyped-call]
        )
