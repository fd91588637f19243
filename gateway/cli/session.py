"""How operators' commands reach the gateway: its `/v1`, in one of three ways.

`--url` and GATEWAY_API_KEY: a gateway elsewhere. A database of PostgreSQL: the API within this process, for a
named operator and without a key. Else the `gateway up` that holds the data folder, with the folder's own key.
"""

from __future__ import annotations

import asyncio
import fcntl
import getpass
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar, cast
from urllib.parse import quote, unquote, urlencode, urlsplit

import aiohttp
import click
import orjson

from gateway.cli.options import PlaceOptions, place_options
from gateway.errors import BadInput, Fault, GatewayError, NotFound, SetupError, StaleVersion
from gateway.masking import Pii, reads_as_personal
from gateway.settings import Settings, is_loopback, load

API_KEY = "GATEWAY_API_KEY"
TIMEOUT_S, CONNECT_S = 60, 5
PAGE = 500
OK, ERROR = 200, 400

_URL_FORM = "give --url https://host[:port], or http:// on this machine: a key must not travel in clear"
_ID = re.compile(r"[A-Za-z0-9._:*-]{1,64}")
_LOCKED = re.compile(r"process \d+, (http://\S+)\s*")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Wire(Protocol):
    """One request and its answer."""

    async def __call__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Status and body of the answer; `target` is path and query."""


class Session:
    """Calls of `/v1` for one tenant and mode; what it refuses is raised as our own errors."""

    def __init__(
        self, wire: Wire, headers: Mapping[str, str], *, key_id: str | None = None, chooses: bool = True
    ) -> None:
        self._wire = wire
        self._headers = headers
        self._chooses = chooses
        self.key_id = key_id
        """The id of the key that is used, where one is."""

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """A GET's JSON."""
        return orjson.loads(await self._call("GET", path, query=query))

    async def text(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """A GET's text."""
        return (await self._call("GET", path, query=query)).decode()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """A POST's JSON."""
        return orjson.loads(await self._call("POST", path, body=orjson.dumps(body)))

    async def put(self, path: str, body: Mapping[str, Any]) -> Any:
        """A PUT's JSON."""
        return orjson.loads(await self._call("PUT", path, body=orjson.dumps(body)))

    async def items(self, path: str, query: Mapping[str, Any], limit: int) -> list[Any]:
        """At most `limit` items of a list, page by page."""
        found: list[Any] = []
        after: str | None = None
        while len(found) < limit:
            size = min(PAGE, limit - len(found))
            page = await self.get(path, {**query, "limit": size, "after": after})
            found += page["items"]
            after = page["next"]
            if after is None:
                break
        return found

    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of an answer, whatever they say."""
        return await self._wire(method, target, self._headers, body)

    def of(self, tenant: str, mode: str) -> Session:
        """The same for another tenant and mode."""
        headers = {**self._headers, "Gateway-Tenant": tenant, "Gateway-Mode": mode}
        return Session(self._wire, headers, key_id=self.key_id, chooses=self._chooses)

    async def _call(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: bytes = b""
    ) -> bytes:
        asked = urlencode({k: v for k, v in (query or {}).items() if v is not None})
        status, answer = await self.ask(method, f"{path}?{asked}" if asked else path, body)
        if status >= ERROR or status < OK:
            refuse(status, answer, chooses=self._chooses)
        return answer


def refuse(status: int, answer: bytes, *, chooses: bool) -> NoReturn:
    """Raise what a problem document says, with all its faults; `chooses`: for a command with --tenant and --mode."""
    try:
        problem = orjson.loads(answer)
        code, detail, faults = problem["code"], problem["detail"], problem.get("errors", ())
        found = [Fault(at=f["at"], code=f["code"], message=f["message"]) for f in faults]
    except (ValueError, KeyError, TypeError):
        raise SetupError(
            f"something answers there ({status}), but it is no gateway: see --url or --data"
        ) from None
    if found:
        raise BadInput(found, code=code)
    if code == StaleVersion.code:
        raise StaleVersion(detail, current=problem.get("current"))
    if code == NotFound.code and chooses:
        detail = f"{detail.rstrip('.')}; look at --tenant and at --mode (live or test)"
    raise GatewayError(detail, code=code)


@contextmanager
def named(places: Mapping[str, tuple[str, str | None]]) -> Iterator[None]:
    """Say faults in the words of the command line: place in the body → option or argument, and what belongs there."""
    try:
        yield
    except BadInput as wrong:
        faults = []
        for fault in wrong.faults:
            at, message = places.get(fault.at, (fault.at, None))
            faults.append(replace(fault, at=at, message=message or fault.message))
        raise BadInput(faults, code=wrong.code) from None


def part(name: str) -> str:
    """An id as a part of a path; GatewayError when it can be none."""
    if not _ID.fullmatch(name):
        raise GatewayError("that is not an id: letters, digits and . _ : - only", code="not_found")
    return quote(name, safe="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where the gateway is and for whom a command asks, as its options say; None: as it comes."""

    options: PlaceOptions
    url: str | None = None
    operator: str | None = None
    tenant: str | None = None
    mode: str | None = None
    chooses: bool = True
    """Whether the command has --tenant and --mode."""

    def run(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Do some work in a session, from first to last."""
        return asyncio.run(self._run(work))

    async def _run(self, work: Callable[[Session], Awaitable[T]]) -> T:
        async with self.open() as session:
            return await work(session)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Session]:
        """The session, until it is left."""
        chosen = {"Gateway-Tenant": self.tenant, "Gateway-Mode": self.mode}
        headers = {name: value for name, value in chosen.items() if value is not None}
        settings = load(**self.options)
        if self.url is None and settings.database.get_backend_name() == "postgresql":
            async with _within(settings, operator_name(self.operator)) as wire:
                yield Session(wire, headers, chooses=self.chooses)
            return
        if self.operator is not None:
            raise SetupError("--operator is for a PostgreSQL opened here: elsewhere the key names its holder")
        base, key = _elsewhere(self.url) if self.url is not None else _beside(settings.data)
        headers["Authorization"] = f"Bearer {key.reveal('sent to the gateway it belongs to')}"
        async with _http(base) as wire:
            yield Session(wire, headers, key_id=_key_id(key), chooses=self.chooses)


def with_session(*, chooses: bool = True) -> Callable[[F], F]:
    """Give a command a Door as its argument `door`; `chooses`: with --tenant and --mode."""

    def decorate(command: F) -> F:
        @wraps(command)
        def called(**given: Any) -> Any:
            names = ("options", "url", "operator", *(("tenant", "mode") if chooses else ()))
            door = Door(**{name: given.pop(name) for name in names}, chooses=chooses)
            return command(door=door, **given)

        found: Any = called
        for option in reversed((_URL, _OPERATOR, *((_TENANT, _MODE) if chooses else ()))):
            found = option(found)
        places = place_options("data", "database_url", "vault_url", "keyring", "redis_url", "public_url")
        return cast("F", places(found))

    return decorate


_URL = click.option("--url", default=None, help=f"A gateway elsewhere; its key is read from {API_KEY}.")
_OPERATOR = click.option(
    "--operator", default=None, help="Who acts, for the history, on PostgreSQL; the user of this machine."
)
_TENANT = click.option("--tenant", default=None, help="For which tenant: `default`, or the key's own.")
_MODE = click.option(
    "--mode",
    type=click.Choice(["live", "test"]),
    default=None,
    help="In which mode: that of the key, or live.",
)


# A gateway elsewhere, or beside us.


@asynccontextmanager
async def _http(base: str) -> AsyncIterator[Wire]:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, connect=CONNECT_S)
    async with aiohttp.ClientSession(timeout=timeout) as http:

        async def wire(
            method: str, target: str, headers: Mapping[str, str], body: bytes
        ) -> tuple[int, bytes]:
            try:
                async with http.request(
                    method, base + target, headers=headers, data=body or None, allow_redirects=False
                ) as answer:
                    return answer.status, await answer.read()
            except (aiohttp.ClientError, TimeoutError, ValueError):
                raise SetupError(f"no answer from {base}: see that it runs, and try again") from None

        yield wire


def _elsewhere(url: str) -> tuple[str, Pii[str]]:
    """A gateway's address and the key for it."""
    parts = urlsplit(url)
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not safe or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise SetupError(_URL_FORM)
    key = os.environ.get(API_KEY, "").strip()
    if not key:
        raise SetupError(f"set {API_KEY} to a key of that gateway")
    return url.rstrip("/"), Pii(key)


def _beside(data: Path) -> tuple[str, Pii[str]]:
    """The address of the `gateway up` that holds the data folder, and the folder's own key."""
    url = holder(data)
    if url is None:
        raise SetupError(f"nothing runs on {data}: start `gateway up` first, or name its folder with --data")
    return url, _own_key(data / "admin.key")


def holder(data: Path) -> str | None:
    """The URL of the process that holds a data folder; None when none does, whatever its lock still says."""
    try:
        with (data / "lock").open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                said = _LOCKED.fullmatch(lock.read(200))
                return said[1] if said else None
    except FileNotFoundError:
        return None
    except OSError as wrong:
        raise SetupError(f"{data} cannot be read ({wrong.strerror}): run this as the user of `up`") from None
    return None


def _own_key(path: Path) -> Pii[str]:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(200).strip()
    except OSError as wrong:
        raise SetupError(
            f"{path} cannot be read ({wrong.strerror}): run this as the user of `up`, or give --url and {API_KEY}"
        ) from None
    if mode & 0o077:
        raise SetupError(f"others may read {path}: revoke that key, or chmod 600 {path} if nobody did")
    return Pii(text)


def _key_id(key: Pii[str]) -> str | None:
    parts = key.reveal("its id is no secret").split("_")
    return parts[2] if len(parts) > 2 else None  # noqa: PLR2004 (gw_mode_id_…)


# Within this process.


@asynccontextmanager
async def _within(settings: Settings, operator: str) -> AsyncIterator[Wire]:
    """The API over PostgreSQL, in this process; there is no socket, so no key is asked for."""
    from gateway.api.app import build  # noqa: PLC0415 (the server's parts, where they are needed)
    from gateway.api.auth import OPERATOR  # noqa: PLC0415
    from gateway.store import migrate  # noqa: PLC0415
    from gateway.vault import KeyRing  # noqa: PLC0415
    from gateway.wiring import Gateway, Place  # noqa: PLC0415

    needed = [name for name in ("vault_url", "keyring") if getattr(settings, name) is None]
    if needed:
        message = "with PostgreSQL the commands need it as well: give it, or the option of that name"
        raise BadInput([Fault(at=f"GATEWAY_{n.upper()}", code="setting", message=message) for n in needed])
    gateway = Gateway(
        Place(
            settings=settings,
            ring=KeyRing.load(settings.keyring_file),
            redis=settings.redis_url,
            public_url=settings.public_url or "",
        )
    )
    try:
        await migrate.check(gateway.database)
        await gateway.vault.check()
        await gateway.accounts.refresh()
        yield _asgi(build(gateway.services()), {OPERATOR: operator})
    finally:
        await gateway.aclose()


def _asgi(app: Callable[..., Awaitable[None]], beside: Mapping[str, str]) -> Wire:
    """Calls an application directly; `beside` is put into the scope of each request."""

    async def wire(method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
            **beside,
        }
        status, parts = 0, []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        await app(scope, receive, send)
        return status, b"".join(parts)

    return wire


def operator_name(given: str | None) -> str:
    """Who acts: as given, else the user of this machine."""
    try:
        name = given or getpass.getuser()
    except (KeyError, OSError):
        name = ""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) or reads_as_personal(name):
        raise SetupError("say who acts with --operator: letters, digits and . _ - only, up to 64")
    return name
