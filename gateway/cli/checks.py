"""What `gateway config check` looks at on this machine: variables, versions, files, rules, calendars."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from enum import StrEnum
from tempfile import TemporaryFile

import channels
from gateway.cli.session import API_KEY
from gateway.embedded import valkey_binary
from gateway.errors import BadInput, PolicyError, SetupError
from gateway.policy.calendars import Calendars
from gateway.policy.lasting import calendars_named, calendars_of_residence, reviews_due
from gateway.policy.localtime import TZDATA_VERSION
from gateway.policy.model import Pack
from gateway.settings import PREFIX, Settings, unknown_variables
from gateway.templating import Catalog
from gateway.templating.approve import Remark, approve, review
from gateway.vault import KeyRing

SOON = timedelta(days=45)
OLD = timedelta(days=400)
"""Time-zone data of that age has missed changes."""
OLDEST_SQLITE = (3, 35)
"""The first with RETURNING."""
FEW_BYTES, LITTLE_BYTES = 200 * 1024**2, 2 * 1024**3
VERSION_S = 5
_NEWER = "install a newer release, or state the days in GATEWAY_CALENDARS"


class Status(StrEnum):
    """How it stands."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was looked at, how it stands, and what to do about it."""

    check: str
    status: Status
    word: str


def ok(check: str, word: str) -> Line:
    """All is well."""
    return Line(check=check, status=Status.OK, word=word)


def warn(check: str, word: str) -> Line:
    """It works, but somebody should look."""
    return Line(check=check, status=Status.WARN, word=word)


def fail(check: str, word: str) -> Line:
    """It does not work."""
    return Line(check=check, status=Status.FAIL, word=word)


def mistakes(wrong: BadInput | PolicyError, check: str) -> list[Line]:
    """Every fault as a failure."""
    return [fail(check, f"{fault.at}: {fault.message}") for fault in wrong.faults]


def everywhere(settings: Settings, environ: Iterable[str], today: date) -> Iterator[Line]:
    """What is looked at in every profile."""
    yield from variables(environ) or [ok("settings", "all are read")]
    yield ok("python", platform.python_version())
    yield key_ring(settings)
    yield from rules(settings, today)


def variables(environ: Iterable[str]) -> list[Line]:
    """GATEWAY_ variables that nothing reads: most likely misspelt."""
    known = [name.upper() for name in Settings.model_fields]
    lines = []
    for name in unknown_variables(environ, also=[API_KEY]):
        near = get_close_matches(name.upper().removeprefix(PREFIX), known, n=1)
        hint = f"did you mean {PREFIX}{near[0]}?" if near else "see docs/settings.md"
        lines.append(warn("settings", f"{name} is not a setting, and nothing reads it: {hint}"))
    return lines


def key_ring(settings: Settings) -> Line:
    """Whether the key ring can be read; the embedded profile makes its own at the first start."""
    path = settings.keyring_file
    if settings.keyring is None and not path.exists() and not (settings.data / "vault.db").exists():
        return ok("key ring", "the first `gateway up` makes it")
    try:
        ring = KeyRing.load(path)
    except SetupError as wrong:
        return fail("key ring", wrong.message)
    return ok("key ring", f"{path}, current key {ring.current}")


def rules(settings: Settings, today: date) -> Iterator[Line]:
    """Whether the packs and what operators state beside them load, and how long their calendars last."""
    from gateway.wiring import load_overrides, load_packs  # noqa: PLC0415 (it brings the whole gateway along)

    packs = load_packs(settings.packs)
    if isinstance(packs, PolicyError):
        yield from mistakes(packs, "packs")
        return
    sound = [pack for pack in packs if not pack.broken]
    yield ok("packs", ", ".join(f"{pack.id} {pack.version}" for pack in sound))
    for pack in packs:
        if pack.broken:
            yield fail("packs", f"nothing is sent to whom {pack.id} applies: {pack.broken}")
    yield from reviews(sound, today)
    yield from strangers(sound, channels.names())
    yield from texts(settings, sound, today)
    yield time_zones(TZDATA_VERSION, today)

    try:
        stated = load_overrides(settings.calendars)
    except PolicyError as wrong:
        yield from mistakes(wrong, "calendars file")
        return
    if settings.calendars is not None:
        days, events = len(stated.calendars.overrides), len(stated.blackouts)
        yield ok("calendars file", f"{settings.calendars}, entries: {days} of calendars, {events} of events")
    yield from horizon(sound, today, stated.calendars)


def texts(settings: Settings, packs: Sequence[Pack], today: date) -> Iterator[Line]:
    """Whether the templates load, and which rules on content some of them do not keep."""
    try:
        templates = Catalog.load(settings.templates).templates.values()
        approve(templates, packs, today=today)
    except BadInput as wrong:
        yield from mistakes(wrong, "templates")
        return
    short: dict[str, list[Remark]] = {}
    for remark in (one for made in templates if made.approved for one in review(made, packs, today=today)):
        short.setdefault(remark.breach.rule.id, []).append(remark)
    for found in short.values():
        yield warn("templates", _short(found))
    if not short:
        yield ok("templates", f"{len(templates)}, and what they say keeps the rules on content")


def _short(remarks: Sequence[Remark]) -> str:
    first = remarks[0]
    then = "it is not sent to whom that binds" if first.breach.enforced else "the rule is in shadow"
    told = first.breach.fault(first.at)
    return f"texts that come short of a rule: {len(remarks)}, such as {told.at}: {told.message} ({then})"


def reviews(packs: Collection[Pack], today: date) -> Iterator[Line]:
    """Packs that somebody must look at again soon, or should have."""
    for pack, due in sorted(reviews_due(packs, today).items()):
        if due < today:
            yield warn("packs", f"{pack} should have been reviewed by {due}: install a newer release")
        elif due - today < SOON:
            yield warn("packs", f"{pack} is to be reviewed by {due}: install a newer release by then")


def strangers(packs: Collection[Pack], adapters: Collection[str]) -> Iterator[Line]:
    """Rules about adapters that are not here: they hold for nothing."""
    for rule in (rule for pack in packs for rule in pack.rules):
        for name in sorted((rule.adapters or frozenset()).difference(adapters)):
            yield warn("packs", f"{rule.id} is about the adapter {name}; there are: {', '.join(adapters)}")


def time_zones(release: str, today: date) -> Line:
    """Whether the time-zone data is old: a release (`2026f`) tells its year, so no more than the least age is known."""
    if today - date(int(release[:4]), 12, 31) > OLD:
        return warn(
            "time zones", f"tzdata {release} is more than {OLD.days} days old: install a newer release"
        )
    return ok("time zones", f"tzdata {release}")


def horizon(packs: Collection[Pack], today: date, calendars: Calendars) -> Iterator[Line]:
    """Calendars that end soon; where one has ended, reminders wait."""
    named, day = calendars_named(packs), today.toordinal()
    ends: dict[int, set[str]] = {}
    for name in named | calendars_of_residence(packs, calendars, today):
        left = calendars.days_left(name, day)
        if left < SOON.days:
            ends.setdefault(left, set()).add(name)
    for left, names in sorted(ends.items()):
        last, what = today + timedelta(days=left), ", ".join(sorted(names))
        if left >= 0:
            yield warn("calendars", f"official until {last}, then reminders there wait: {what}; {_NEWER}")
        else:
            tell = fail if names & named else warn
            yield tell("calendars", f"ended on {last}, reminders there wait: {what}; {_NEWER}")
    if not ends:
        yield ok("calendars", f"official for the next {SOON.days} days")


def folder(settings: Settings) -> Iterator[Line]:
    """The data folder of the embedded profile, and the disk that it is on."""
    data = settings.data
    there = next(path for path in (data, *data.absolute().parents) if path.exists())
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as wrong:
        yield fail("data folder", f"{there} cannot be written ({wrong.strerror}): give another with --data")
        return
    if not data.exists():
        yield ok("data folder", f"the first `gateway up` makes {data}")
    elif data.stat().st_mode & 0o077:
        yield warn("data folder", f"others may look into {data}: chmod 700 {data}")
    else:
        yield ok("data folder", str(data))
    yield room(shutil.disk_usage(there).free)


def room(free: int) -> Line:
    """Whether so many bytes are enough; what is accepted is never lost, but a full disk accepts nothing."""
    word = f"{free / 1024**3:.1f} GiB free"
    if free < FEW_BYTES:
        return fail("disk", f"{word}: make room, or nothing can be accepted")
    return warn("disk", f"{word}: make room soon") if free < LITTLE_BYTES else ok("disk", word)


def sqlite() -> Line:
    """The SQLite that this Python brings along."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        return fail("sqlite", f"{sqlite3.sqlite_version} is too old: use a newer Python")
    return ok("sqlite", sqlite3.sqlite_version)


def valkey() -> Line:
    """The Valkey that `gateway up` starts."""
    try:
        binary = valkey_binary()
        said = subprocess.run(  # noqa: S603 (the binary that `up` starts, too)
            [binary, "--version"], capture_output=True, text=True, timeout=VERSION_S, check=True
        ).stdout
    except SetupError as wrong:
        return fail("valkey", wrong.message)
    except (OSError, subprocess.SubprocessError):
        return fail("valkey", "the embedded Valkey does not start: install it anew, or set GATEWAY_REDIS_URL")
    found = next((word[2:] for word in said.split() if word.startswith("v=")), "of an unknown version")
    return ok("valkey", f"{found}, embedded")


def accounts_file(settings: Settings) -> Iterator[Line]:
    """Whether the accounts file could be read."""
    if settings.accounts is None:
        return
    from gateway.cli.account import read  # noqa: PLC0415 (it brings the adapters' names along)

    try:
        found = read(settings.accounts)
    except BadInput as wrong:
        yield from mistakes(wrong, "accounts file")
    else:
        yield ok("accounts file", f"{settings.accounts}, {len(found)} accounts")
