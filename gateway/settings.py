"""Settings: GATEWAY_… variables, read once into one frozen object; every mistake is named at once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from gateway.errors import BadInput, Fault
from gateway.masking import Pii

PREFIX = "GATEWAY_"

_REDIS_PORT, _SENTINEL_PORT = 6379, 26379
_REDIS_FORM = (
    "give redis://[<user>:<password>@]<host>[:<port>][/<db>], rediss://… for TLS, unix:///path/to.sock, "
    "redis+sentinel://[<user>:<password>@]<host>:<port>,<host>:<port>/<service>[/<db>] or "
    "redis+cluster://[<user>:<password>@]<host>:<port>,<host>:<port>"
)
_REDIS_KINDS: Mapping[str, Literal["plain", "sentinel", "cluster"]] = {
    "": "plain",
    "sentinel": "sentinel",
    "cluster": "cluster",
}
_DATABASE_FORM = (
    "give postgresql://<user>:<password>@<host>[:<port>]/<database>[?sslmode=…] or sqlite:///path/to/file.db"
)
_PUBLIC_FORM = "give https://host[:port][/path], as providers reach it, without a query"
_LISTEN_FORM = "give host:port, such as 127.0.0.1:8080 or [::1]:8080"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTarget:
    """Where Redis is. `hosts`: one, the sentinels, or some nodes of a cluster; `path`: a Unix socket, instead."""

    kind: Literal["plain", "sentinel", "cluster"] = "plain"
    hosts: tuple[tuple[str, int], ...] = (("127.0.0.1", _REDIS_PORT),)
    service: str | None = None
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: Pii[str] | None = None
    tls: bool = False


def redis_target(url: str) -> RedisTarget:
    """The parts of a Redis URL; ValueError that says the forms, and nothing of the URL."""
    try:
        return _redis_target(urlsplit(url))
    except (ValueError, IndexError):
        raise ValueError(_REDIS_FORM) from None


def _redis_target(url: SplitResult) -> RedisTarget:
    scheme, _, kind = url.scheme.partition("+")
    if scheme not in {"redis", "rediss", "unix"} or kind not in _REDIS_KINDS or url.query or url.fragment:
        raise ValueError
    if scheme == "unix":
        if kind or url.netloc or not url.path:
            raise ValueError
        return RedisTarget(path=unquote(url.path))
    login, _, hosts = url.netloc.rpartition("@")
    user, _, password = login.partition(":")
    path = url.path.strip("/").split("/") if url.path.strip("/") else []
    service = path.pop(0) if kind == "sentinel" else None
    (db,) = path or ["0"]
    port = _SENTINEL_PORT if kind == "sentinel" else _REDIS_PORT
    named = tuple(_host(host, port) for host in hosts.split(","))
    if (len(named) > 1 and not kind) or (kind == "cluster" and db != "0"):
        raise ValueError
    return RedisTarget(
        kind=_REDIS_KINDS[kind],
        hosts=named,
        service=service,
        db=_number(db, 1023),
        username=unquote(user) or None,
        password=Pii(unquote(password)) if password else None,
        tls=scheme == "rediss",
    )


def _number(text: str, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= largest):
        raise ValueError
    return int(text)


_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:/@\[\]?#]+))(?::([0-9]{1,5}))?")


def _host(text: str, default: int | None) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None or (found[3] is None and default is None):
        raise ValueError
    host = str(ipaddress.IPv6Address(found[1])) if found[1] else found[2]
    return host, _number(found[3] or str(default), 65_535)


def split_listen(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[::1]:8080`; port 0 is any free one. ValueError says the form."""
    try:
        return _host(text, None)
    except ValueError:
        raise ValueError(_LISTEN_FORM) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def database_url(plain: str) -> URL:
    """A plain `postgresql://…` or `sqlite:///…` as SQLAlchemy's asynchronous URL; ValueError says the forms.

    Of libpq's parameters `sslmode` is known, and `host` and `port` (a Unix socket). The URL prints without
    its password.
    """
    try:
        url = make_url(plain)
    except (ArgumentError, ValueError):
        raise ValueError(_DATABASE_FORM) from None
    match url.drivername:
        case "postgresql" | "postgres" if url.database and url.query.keys() <= {"sslmode", "host", "port"}:
            mode = url.query.get("sslmode")
            bare = url.set(drivername="postgresql+asyncpg").difference_update_query(["sslmode"])
            return bare.update_query_dict({"ssl": mode}) if mode else bare
        case "sqlite" if url.database and url.database != ":memory:" and not (url.query or url.host):
            return url.set(drivername="sqlite+aiosqlite")
        case _:
            raise ValueError(_DATABASE_FORM)


def file_url(path: Path) -> URL:
    """The URL of a SQLite file."""
    return URL.create("sqlite+aiosqlite", database=str(path))


def _direct_url(plain: str) -> URL:
    url = database_url(plain)
    if url.get_backend_name() != "postgresql":
        raise ValueError("give postgresql://…, past any pooler; SQLite needs none")
    return url


def _public_url(text: str) -> str:
    url = urlsplit(text)
    if (
        url.scheme not in {"http", "https"}
        or not url.hostname
        or url.query
        or url.fragment
        or "@" in url.netloc
    ):
        raise ValueError(_PUBLIC_FORM)
    return text.rstrip("/")


def _listen(text: str) -> str:
    split_listen(text)
    return text


ListenAt = Annotated[str, AfterValidator(_listen)]
RedisUrl = Annotated[RedisTarget, NoDecode, PlainValidator(redis_target)]
DatabaseUrl = Annotated[URL, PlainValidator(database_url)]
DirectUrl = Annotated[URL, PlainValidator(_direct_url)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(str.lower)]


class Settings(BaseSettings):
    """What a deployment sets; each field is the variable GATEWAY_ + its name. Prints no password."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
    )

    data: Path = Field(default=Path(".gateway"), description="folder of the embedded profile")
    listen: ListenAt = Field(default="127.0.0.1:8080", description="host:port of the HTTP API")
    redis_url: RedisUrl | None = Field(
        default=None,
        description="Redis or Valkey: redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://",
    )
    database_url: DatabaseUrl | None = Field(
        default=None,
        description="where everything is kept: postgresql://… (or sqlite:///… under `gateway up`)",
    )
    database_direct_url: DirectUrl | None = Field(
        default=None, description="the same PostgreSQL past a pooler, for the locks of sessions"
    )
    vault_url: DatabaseUrl | None = Field(
        default=None,
        description="where the borrowers' keys are kept: another database than GATEWAY_DATABASE_URL",
    )
    public_url: PublicUrl | None = Field(
        default=None, description="how providers reach this gateway, for their callbacks"
    )
    templates: Path | None = Field(
        default=None, description="folder of message templates and catalog.toml, instead of the shipped ones"
    )
    calendars: Path | None = Field(
        default=None,
        description="TOML of holidays and regional events beside the shipped ones, read at the start",
    )
    packs: Path | None = Field(
        default=None, description="folder of the deployment's own packs, loaded beside the shipped ones"
    )
    accounts: Path | None = Field(default=None, description="accounts.toml, read at the first start")
    keyring: Path | None = Field(default=None, description="the key ring that `gateway vault init` made")
    log_level: LogLevel = Field(default="info", description="debug, info, warning or error")
    policy_offset_allowed: bool = Field(
        default=False, description="test deployments only: the clock that rules see may be moved"
    )
    one_person: bool = Field(
        default=False, description="one holder alone may resume a stop; it is on record wherever the stop is"
    )
    journal: Path | None = Field(
        default=None,
        description="folder on a worker's own disk where every call is noted before it is made: for a PostgreSQL "
        "whose standby may lag",
    )
    worker_listen: ListenAt | None = Field(
        default=None, description="host:port where a worker answers /livez, /readyz and /metrics"
    )

    @property
    def database(self) -> URL:
        """GATEWAY_DATABASE_URL, else the file of the data folder."""
        return self.database_url or file_url(self.data / "gateway.db")

    @property
    def vault(self) -> URL:
        """GATEWAY_VAULT_URL, else the file of the data folder."""
        return self.vault_url or file_url(self.data / "vault.db")

    @property
    def keyring_file(self) -> Path:
        """GATEWAY_KEYRING, else the file of the data folder."""
        return self.keyring or self.data / "keyring.json"


def load(**options: Any) -> Settings:
    """Settings from the environment; options of a command, where given, win. BadInput names every mistake."""
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as wrong:
        faults = wrong.errors(include_url=False, include_input=False)
        raise BadInput([_fault(fault) for fault in faults], code="setup") from None
    if settings.database == settings.vault:
        raise BadInput(
            [_wrong("vault_url", "give another database: a backup must not bring erased keys back")]
        )
    return settings


def require_servers(settings: Settings) -> None:
    """BadInput that names all that `gateway api` and `gateway worker` lack, which bring no servers along."""
    needed = ("redis_url", "database_url", "vault_url", "keyring", "public_url")
    faults = [_wrong(name, _help(name)) for name in needed if getattr(settings, name) is None]
    for name in ("database_url", "vault_url"):
        url: URL | None = getattr(settings, name)
        if url is not None and url.get_backend_name() == "sqlite":
            faults.append(_wrong(name, "SQLite serves `gateway up` alone; give postgresql://…"))
    if faults:
        raise BadInput(faults, code="setup")


def unknown_variables(environ: Iterable[str], also: Iterable[str] = ()) -> list[str]:
    """The GATEWAY_ variables that nothing reads; `also` names what accounts read from the environment."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | set(also)
    return sorted(name for name in environ if name.upper().startswith(PREFIX) and name.upper() not in known)


def _fault(fault: ErrorDetails) -> Fault:
    return _wrong(str(fault["loc"][0]), fault["msg"].removeprefix("Value error, "))


def _wrong(name: str, message: str) -> Fault:
    return Fault(at=PREFIX + name.upper(), code="setting", message=message)


def _help(name: str) -> str:
    return f"not set: {Settings.model_fields[name].description}"
