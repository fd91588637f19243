"""What a reminder costs when much waits, many are known and the log is long, beside the same with little of each.

    python bench/growth.py [--count 3000] [--waiting 1000000] [--borrowers 1000000] [--records 10000000]

The same reminders over two gateways: one that knows nobody else, and one whose tables were filled with copies of their
rows under other ids, waiting for another month. It needs about 20 GB of disk for the figures that it begins with, and
ends with 1 when a reminder costs more than MOST times as much.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from math import ceil

from drain import Drained, drain
from ours import Ours, Run
from rich.console import Console
from stand import Stand, StandError, standing

MOST = 1.3
AWAY_US = 30 * 86_400 * 1_000_000
"""Copies wait for so much longer."""
AT_ONCE = 500_000
"""Rows of one statement."""

COPIES: dict[str, tuple[str, dict[str, str]]] = {
    "person": ("borrowers", {"id": "t.id || n"}),
    "identity": ("borrowers", {"blind": "t.blind || int8send(n)", "person": "t.person || n"}),
    "borrower": ("borrowers", {"id": "t.id || '-' || n", "person": "t.person || n"}),
    "address": ("borrowers", {"borrower": "t.borrower || '-' || n", "blind": "t.blind || int8send(n)"}),
    "debt": ("borrowers", {"id": "t.id || '-' || n", "borrower": "t.borrower || '-' || n"}),
    "reminder": (
        "waiting",
        {
            "id": "t.id || n",
            "key": "t.key || n",
            "person": "t.person || n",
            "borrower": "t.borrower || '-' || n",
            "debt": "t.debt || '-' || n",
            "next_at": f"t.next_at + {AWAY_US} + n",
            "expires_at": f"t.expires_at + {2 * AWAY_US}",
        },
    ),
    "idempotency": ("waiting", {"key": "t.key || n"}),
    "record": (
        "records",
        {
            "id": "t.id || n",
            "at": "t.at - n",
            "borrower": "t.borrower || '-' || n",
            "reminder": "t.reminder || n",
        },
    ),
    "record_side": ("records", {"id": "t.id || n", "borrower": "t.borrower || '-' || n"}),
    "record_outbox": ("records", {"id": "t.id || n", "at": "t.at - n"}),
}
"""By table: which number it grows to, and the columns that its copies (the n-th of each row) have for themselves."""


def grow(stand: Stand, run: Run, wanted: dict[str, int]) -> Iterator[str]:
    """Copy rows until each table has as many as wanted; tells how far it is."""
    for table, (number, changed) in COPIES.items():
        (row,) = stand.postgres.say(f"SELECT count(*) AS n FROM {table}", on=run.database)  # noqa: S608
        copies = ceil(wanted[number] / row["n"]) - 1
        (columns,) = stand.postgres.say(
            "SELECT array_agg(column_name::text ORDER BY ordinal_position) AS names FROM information_schema.columns"  # noqa: S608
            f" WHERE table_name = '{table}'",
            on=run.database,
        )
        values = ", ".join(changed.get(name, f"t.{name}") for name in columns["names"])
        each = max(1, AT_ONCE // row["n"])
        source = f"{table}_first"
        stand.postgres.say(f"CREATE TABLE {source} AS SELECT * FROM {table}", on=run.database)  # noqa: S608
        for start in range(1, copies + 1, each):
            end = min(copies, start + each - 1)
            stand.postgres.say(
                f"INSERT INTO {table} ({', '.join(columns['names'])})"  # noqa: S608 (names of the schema)
                f" SELECT {values} FROM {source} t, generate_series({start}::bigint, {end}) n",
                on=run.database,
            )
            yield f"{table}: {row['n'] * (end + 1):,}"
        stand.postgres.say(f"DROP TABLE {source}", on=run.database)
    stand.postgres.say("ANALYZE", "CHECKPOINT", on=run.database)


def measured(
    stand: Stand, ours: Ours, count: int, console: Console, wanted: dict[str, int] | None
) -> Drained:
    """One drain by one worker, of a gateway that was filled before or not."""
    with ours.served() as run:
        run.take_in(count, "sms")
        if wanted is not None:
            began = time.monotonic()
            with console.status("filling") as status:
                for far in grow(stand, run, wanted):
                    status.update(f"filling: {far}")
            console.print(f"filled in {time.monotonic() - began:,.0f} s", highlight=False)
        return drain(stand, run.join(1), run.begin, count, "sms", why=run.states)


def cost_us(done: Drained) -> float:
    """Processor of the worker, PostgreSQL and Valkey, µs a reminder."""
    return sum(done.cpu_us[name] for name in ("worker", "postgres", "valkey"))


def main() -> int:
    """Measure small, large, small; tell, and say whether the goal is met."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--count", type=int, default=3000)
    given.add_argument("--waiting", type=int, default=1_000_000)
    given.add_argument("--borrowers", type=int, default=1_000_000)
    given.add_argument("--records", type=int, default=10_000_000)
    said = given.parse_args()
    wanted = {"waiting": said.waiting, "borrowers": said.borrowers, "records": said.records}
    console = Console()
    try:
        with standing(None) as stand:
            ours = Ours(stand)
            ours.make()
            found = [measured(stand, ours, said.count, console, size) for size in (None, wanted, None)]
    except StandError as wrong:
        sys.stderr.write(f"{wrong}\n")
        return 1
    for words, done in zip(("little", "much", "little"), found, strict=True):
        console.print(
            f"{words:>6}: {done.rate:,.0f} a second, {cost_us(done):,.0f} µs a reminder, faults {done.faults}",
            highlight=False,
        )
    little = (cost_us(found[0]) + cost_us(found[2])) / 2
    ratio = cost_us(found[1]) / little
    console.print(f"{ratio:.2f} times as much (goal: {MOST})", highlight=False)
    return 0 if ratio <= MOST and not any(done.faults for done in found) else 1


if __name__ == "__main__":
    sys.exit(main())
