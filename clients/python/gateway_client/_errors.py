"""Every error of this client.

    ClientError
    ├── Refused        the gateway answered no: `status`, `code`, `detail`, `faults`, `request_id`, `retry_after_s`
    ├── NoAnswer       no answer came; `may_have_arrived` says whether the request could have been taken in
    └── NotUnderstood  something answered that does not speak this API: look at the address and at proxies

No message of any of them holds what was sent, an address's text or the key.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_FAULTS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One mistake in what was sent: where (a JSON pointer), a stable code, and what to do."""

    at: str
    code: str
    message: str


class ClientError(Exception):
    """A call that did not end well."""


class Refused(ClientError):
    """The gateway answered no. `code` is stable; docs/errors.md of the gateway says what to do for each.

    `retry_after_s`: seconds after which it may be tried again, None where the gateway gave none.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        faults: tuple[Fault, ...] = (),
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status, self.code, self.detail = status, code, detail
        self.faults, self.request_id, self.retry_after_s = faults, request_id, retry_after_s
        shown = "".join(f"; {f.at}: {f.message}" for f in faults[:MOST_FAULTS_SHOWN])
        more = len(faults) - MOST_FAULTS_SHOWN
        super().__init__(
            f"{status} {code}: {detail.rstrip('.')}{shown}{f'; and {more} more' if more > 0 else ''}"
        )


class NoAnswer(ClientError):
    """No answer came. Call again with the same idempotency key: nothing is done twice.

    `may_have_arrived` is False where no connection was made, so the gateway cannot have seen it.
    """

    def __init__(self, what: str, *, may_have_arrived: bool) -> None:
        self.may_have_arrived = may_have_arrived
        known = "it may have arrived" if may_have_arrived else "it did not arrive"
        super().__init__(f"no answer from the gateway ({what}); {known}; call again with the same key")


class NotUnderstood(ClientError):
    """An answer that is none of this API's: `status` says which. Look at the address and at proxies."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"an answer with status {status} that is not this API's; is the address right?")
