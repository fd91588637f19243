"""Errors as RFC 9457 problem documents: a stable code, every fault at once, no value that was sent."""

from __future__ import annotations

from html import escape
from typing import Any

import orjson
from starlette.responses import HTMLResponse, Response

from gateway.bodies import codes
from gateway.errors import (
    BadInput,
    Conflict,
    Forbidden,
    GatewayError,
    KeyReused,
    NotFound,
    Overloaded,
    StaleVersion,
    TooLarge,
    Unauthorised,
    Unavailable,
)

RETRY_S = 5
"""Seconds after which a store that was not there is asked again."""

TIMED_OUT = 408

_STATUS: dict[type[GatewayError], int] = {
    BadInput: 422,
    KeyReused: 422,
    NotFound: 404,
    Conflict: 409,
    Unauthorised: 401,
    Forbidden: 403,
    TooLarge: 413,
    Overloaded: 429,
    Unavailable: 503,
}

TITLES: dict[str, tuple[int, str, str]] = {
    "malformed_json": (400, "This is not JSON", "Send UTF-8 JSON, nested at most 32 deep."),
    "key_missing": (401, "A key is needed", "Send Authorization: Bearer gw_live_… or gw_test_…."),
    "key_wrong": (401, "This key is not valid", "Ask an admin for a key: gateway apikey create."),
    "forbidden": (403, "This key may not do that", "Use a key of a role that the route names."),
    "not_found": (404, "There is none of that id", "Look at the id, and at the key's tenant and mode."),
    "method_not_allowed": (405, "This path has no such method", "See Allow, and /openapi.json."),
    "body_too_slow": (
        408,
        "The body came too slowly",
        "Send it again; in smaller parts if the link is slow.",
    ),
    "conflict": (409, "Its state does not allow that", "Read it again and decide anew."),
    "stale_version": (409, "It was changed since you read it", "Look at `current`, and decide anew."),
    "already_resumed": (409, "It has ended already", "To set it again, send a new idempotency key."),
    "already_settled": (409, "It is known by now", "Look at its reminder: there is nothing to decide."),
    "quarantined": (409, "It is set aside", "Mend what the log says, then gateway poison replay."),
    "still_asked": (409, "Its provider may yet tell", "Decide once it is parked: gateway unknown list."),
    "too_late": (409, "It is too late for that", "Its provider was called, or it is over."),
    "too_large": (413, "The body is over its limit", "Send fewer items: 1 000, and 4 MiB, in a batch."),
    "invalid_request": (422, "The input has mistakes", "Mend what `errors` lists, and send it again."),
    "key_reused": (422, "This idempotency key had another body", "Send a new key with a new body."),
    "template_unknown": (422, "There is no such template", "Use one of the catalog."),
    "template_unapproved": (422, "The template is not approved", "Have this version approved."),
    "template_unbound": (422, "No account can carry the template", "Bind it, or leave the channel out."),
    "fact_missing": (422, "The template needs more facts", "Give the facts that `errors` names."),
    "overloaded": (429, "More waits than can be done in time", "Send it again after Retry-After."),
    "internal": (500, "Something of ours went wrong", "Send it again; tell us its request_id."),
    "ending": (503, "This process is ending", "Nothing was accepted: send it again."),
    "store_unavailable": (503, "A part we need is not there", "Nothing was accepted: send it again."),
}
"""Code → status, title, and what to do; a code that stands for a whole answer."""


FAULTS = codes() | {
    *("currency_differs", "debt_of_another", "expires_before_start", "expires_past", "fact_unknown"),
    *("id_differs", "in_future", "key_differs", "reservation_unknown", "rule_unknown", "text_too_long"),
    *("pack_malformed", "pack_unknown", "too_far", "too_many", "until_unfit"),
}
"""Codes of faults: of a value's form, and of what it says against the store, the catalog and the clock."""


def status_of(error: GatewayError) -> int:
    """The HTTP status of an error."""
    if error.code in TITLES:
        return TITLES[error.code][0]
    return next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)


_KINDS = {404: "not_found", 409: "conflict", 422: "invalid_request"}
"""Status → the code whose title stands in for one that has none of its own."""


def document(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The problem document of an error."""
    faults = getattr(error, "faults", ())
    stands = {"current": error.current} if isinstance(error, StaleVersion) else {}
    _, title, _ = TITLES.get(error.code) or TITLES[_KINDS.get(status_of(error), "internal")]
    return {
        "type": f"/docs/errors#{error.code}",
        "title": title,
        "status": status_of(error),
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
        **(
            {"errors": [{"at": f.at, "code": f.code, "message": f.message} for f in faults]} if faults else {}
        ),
        **stands,
    }


def response(error: GatewayError, request_id: str) -> Response:
    """An error as an answer."""
    status = status_of(error)
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_S)
    elif isinstance(error, Unauthorised):
        headers["WWW-Authenticate"] = "Bearer"
    if status == TIMED_OUT:
        headers["Connection"] = "close"  # the rest of the body may come yet, and is nobody's next request
    body = orjson.dumps(document(error, request_id), option=orjson.OPT_UTC_Z)
    return Response(body, status_code=status, headers=headers, media_type="application/problem+json")


def page() -> HTMLResponse:
    """What each code means and what to do next, for people: `/docs/errors`."""
    rows = "".join(
        f'<tr id="{code}"><td><code>{code}</code><td>{status}<td>{escape(title)}<td>{escape(todo)}'
        for code, (status, title, todo) in TITLES.items()
    )
    inner = " ".join(f'<code id="{code}">{code}</code>' for code in sorted(FAULTS - TITLES.keys()))
    return HTMLResponse(_PAGE.format(rows=rows, inner=inner))


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Errors</title>
<h1>Errors</h1>
<p>Every error is <code>application/problem+json</code> (RFC 9457) with a stable <code>code</code>.</p>
<table><tr><th>code<th>status<th>meaning<th>what to do next{rows}</table>
<h2>Faults of single values</h2>
<p>They stand in <code>errors</code>, each with its place (a JSON pointer) and what to do.</p>
<p>{inner}</p></html>"""
