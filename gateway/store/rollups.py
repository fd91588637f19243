"""The triggers that keep `backlog` with every change of `reminder`, in each dialect's own words.

On SQLite one writer changes the counts in place, row by row. On PostgreSQL a statement appends what it moved to
`backlog_delta` (counts changed in place would make every transaction wait for every other), and
gateway.store.backlog folds that in. A migration that makes `reminder` anew on SQLite drops its triggers: it runs
these again.
"""

from __future__ import annotations

MINUTE_US = 60_000_000
NEVER = -1
"""The minute of what waits for nothing."""


_NAMES = ("tenant", "queue", "state", "reason", "minute")
COLUMNS = ", ".join(_NAMES)
"""What is counted by, in the order of its key."""


def _values(row: str) -> tuple[str, ...]:
    """Where a row stands; a minute holds what comes due after the one before it and up to its own end."""
    minute = f"COALESCE(({row}.next_at + {MINUTE_US - 1}) / {MINUTE_US} * {MINUTE_US}, {NEVER})"
    return f"{row}.tenant", f"{row}.queue", f"{row}.state", f"COALESCE({row}.reason, '')", minute


def _place(row: str) -> str:
    return ", ".join(_values(row))


FILL = (
    f"INSERT INTO backlog ({COLUMNS}, number)"  # noqa: S608 (our own names)
    f" SELECT {_place('reminder')}, COUNT(*) FROM reminder GROUP BY 1, 2, 3, 4, 5"
)
"""The counts of what was there before the triggers."""


_LEFT = " AND ".join(f"{name} = {value}" for name, value in zip(_NAMES, _values("OLD"), strict=True))
_GOES = (
    f"UPDATE backlog SET number = number - 1 WHERE {_LEFT};"  # noqa: S608 (our own names)
    f" DELETE FROM backlog WHERE {_LEFT} AND number = 0;"
)
_COMES = (
    f"INSERT INTO backlog ({COLUMNS}, number) VALUES ({_place('NEW')}, 1)"  # noqa: S608
    f" ON CONFLICT ({COLUMNS}) DO UPDATE SET number = number + 1;"
)
_CHANGED = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in ("queue", "state", "reason", "next_at"))

_MOVES = f"AFTER UPDATE OF queue, state, reason, next_at ON reminder WHEN {_CHANGED}"
_SQLITE = (
    f"CREATE TRIGGER IF NOT EXISTS backlog_insert AFTER INSERT ON reminder BEGIN {_COMES} END",
    f"CREATE TRIGGER IF NOT EXISTS backlog_update {_MOVES} BEGIN {_GOES} {_COMES} END",
    f"CREATE TRIGGER IF NOT EXISTS backlog_delete AFTER DELETE ON reminder BEGIN {_GOES} END",
)


def _function(name: str, rows: str) -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"  # noqa: S608
        f" INSERT INTO backlog_delta ({COLUMNS}, number)"
        f" SELECT {COLUMNS}, SUM(number) FROM ({rows}) AS moved ({COLUMNS}, number)"
        f" GROUP BY {COLUMNS} HAVING SUM(number) <> 0; RETURN NULL; END $$"
    )


_WAS = f"SELECT {_place('was')}, -1 FROM was"  # noqa: S608
_IS = f"SELECT {_place('becomes')}, 1 FROM becomes"  # noqa: S608


def _trigger(what: str, tables: str) -> str:
    return (
        f"CREATE OR REPLACE TRIGGER backlog_{what} AFTER {what.upper()} ON reminder REFERENCING {tables}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION backlog_{what}()"
    )


_POSTGRESQL = (
    _function("backlog_insert", _IS),
    _function("backlog_update", f"{_WAS} UNION ALL {_IS}"),
    _function("backlog_delete", _WAS),
    _trigger("insert", "NEW TABLE AS becomes"),
    _trigger("update", "OLD TABLE AS was NEW TABLE AS becomes"),
    _trigger("delete", "OLD TABLE AS was"),
)

ROLLUPS = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
"""The statements that make the triggers, by dialect; they may be run again."""
