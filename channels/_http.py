"""What adapters that speak HTTP share: settings read once, connections that are kept, and whether a request left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from yarl import URL

from channels._http1 import Client, Failed
from gateway.domain import Account, Handed, HandOver
from gateway.errors import SetupError

TOTAL_S = 10.0
CONNECT_S = 3.0
ANSWER_LIMIT = 65_536

ROUTING = frozenset({"countries", "except_countries", "weight", "pace", "sender_kind"})
"""Settings by which the gateway chooses among accounts and paces them; no adapter's business."""

S = TypeVar("S", bound=BaseModel)


def read_settings(model: type[S], account: Account) -> S:
    """An account's sender, endpoint, settings and credentials in one model; SetupError names each fault."""
    given = {"sender": account.sender} | {k: v for k, v in account.settings.items() if k not in ROUTING}
    given |= {name: value.reveal("an adapter's credentials") for name, value in account.credentials.items()}
    if account.endpoint is not None:
        given["endpoint"] = account.endpoint
    try:
        return model.model_validate(given)
    except ValidationError as wrong:
        faults = "; ".join(
            _fault(".".join(map(str, each["loc"])), each["type"], each["msg"]) for each in wrong.errors()
        )
        raise SetupError(f"account {account.name} ({account.adapter}): {faults}") from None


def _fault(name: str, kind: str, message: str) -> str:
    match kind:
        case "missing":
            return f"{name} is missing; add it to the account's credentials or settings"
        case "extra_forbidden":
            return f"{name} is not known to this adapter; take it out or mend its spelling"
        case _:
            return f"{name}: {message}"


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request and what came of it.

    `sent`: a byte of it may have left. `status` is None unless a whole answer came, and `failure` then says why:
    `timeout`, `connection` or `too_long`.
    """

    sent: bool = False
    status: int | None = None
    body: bytes = b""
    failure: str | None = None

    def lost(self) -> Handed:
        """How a call without an answer ended: nothing left us, or nobody knows."""
        return Handed(ending=HandOver.UNKNOWN if self.sent else HandOver.NOT_SENT, code=self.failure)

    def data(self) -> Mapping[str, Any]:
        """The answer's JSON object, empty when it is none."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}


def session(*, total: float = TOTAL_S, connect: float = CONNECT_S) -> Client:
    """Connections for one adapter; `total` and `connect` in seconds."""
    return Client(total_s=total, connect_s=connect, limit=ANSWER_LIMIT)


async def post(
    through: Client, url: URL, *, headers: Mapping[str, str], body: bytes | None = None
) -> Exchange:
    """POST once, read at most ANSWER_LIMIT bytes; a failure of the network is told by the exchange."""
    try:
        reply = await through.request("POST", str(url), headers, body or b"")
    except Failed as failed:
        word = failed.word if failed.word in {"timeout", "too_long"} else "connection"
        return Exchange(sent=failed.sent, failure=word)
    return Exchange(sent=True, status=reply.status, body=reply.body)
