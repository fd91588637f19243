"""Every error this product raises on purpose.

    GatewayError
    ├── BadInput         what the caller gave is wrong; carries every fault at once   422, exit 2
    ├── KeyReused        an idempotency key came back with another body               422
    ├── NotFound         nothing of that id in this tenant                            404
    ├── Conflict         the state of the thing forbids it (`too_late`, …)            409
    │   └── StaleVersion it was changed since it was read; carries what stands now    409
    ├── Unauthorised     no key, or a wrong one                                       401
    ├── Forbidden        the key's role may not use this route                        403
    ├── TooLarge         a body over its limit                                        413
    ├── Overloaded       come back after `retry_after`                                429
    ├── Unavailable      the store, Redis or the disk is not there                    503
    ├── SetupError       settings, key ring, accounts or schema are not usable        exit 2
    └── PolicyError      a pack, a case file or a calendar is not usable              exit 2

No message of any of them ever holds a value that a caller sent: places and codes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mistake: where (a JSON pointer or a file's line), a stable code, and what to do."""

    at: str
    code: str
    message: str


class GatewayError(Exception):
    """Something the gateway refuses, with a stable `code` and what to do next."""

    code = "error"

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        """What happened and what to do next; never holds a caller's value."""
        return str(self.args[0])


class BadInput(GatewayError):
    """The input has mistakes; mend those listed and send it again."""

    code = "invalid_request"

    def __init__(
        self, faults: list[Fault] | tuple[Fault, ...], message: str = "", *, code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.faults = tuple(faults)


class KeyReused(GatewayError):
    """Another body came under this idempotency key before; send a new key with a new body."""

    code = "key_reused"


class NotFound(GatewayError):
    """There is nothing of that id in this tenant."""

    code = "not_found"


class Conflict(GatewayError):
    """The state it is in now does not allow this."""

    code = "conflict"


class StaleVersion(Conflict):
    """It was changed meanwhile; look at what stands now, `current`, and decide anew."""

    code = "stale_version"

    def __init__(self, message: str, *, current: Mapping[str, Any] | None) -> None:
        super().__init__(message)
        self.current = current


class Unauthorised(GatewayError):
    """Send a key: Authorization: Bearer gw_live_… or gw_test_…."""

    code = "key_missing"


class Forbidden(GatewayError):
    """The key's role may not do that; ask an admin for a key with another role."""

    code = "forbidden"


class TooLarge(GatewayError):
    """The body is over its limit; send fewer items."""

    code = "too_large"


class Overloaded(GatewayError):
    """More work is waiting than can be done in time; try again later."""

    code = "overloaded"

    def __init__(self, message: str = "", *, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unavailable(GatewayError):
    """A part the gateway needs is not there; nothing was accepted; try again later."""

    code = "store_unavailable"


class StoreRefused(Unavailable):
    """The store is there and refused what was to be written."""


class SetupError(GatewayError):
    """The deployment is not usable as it is set up."""

    code = "setup"


class PolicyError(GatewayError):
    """A pack or a case file is not usable; every mistake is listed."""

    code = "policy"

    def __init__(self, faults: list[Fault] | tuple[Fault, ...], message: str = "") -> None:
        super().__init__(message)
        self.faults = tuple(faults)
