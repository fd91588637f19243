"""One example of each body and answer; the people in them are invented, and nobody has their numbers."""

from __future__ import annotations

from typing import Any

BORROWER: dict[str, Any] = {
    "name": "Zhang San",
    "language": "zh-CN",
    "residence": "CN-GD",
    "time_zones": [{"zone": "Asia/Shanghai", "source": "declared"}],
    "addresses": [
        {"channel": "sms", "value": "+8613800138000", "kind": "personal"},
        {"channel": "email", "value": "user@example.com"},
    ],
    "consents": [{"id": "c1", "kind": "contact", "channel": "sms", "given_at": "2026-01-05T09:00:00+08:00"}],
    "windows": [{"id": "w1", "kind": "deny", "on": ["mon", "wed"], "open": "09:00", "close": "12:00"}],
    "blackouts": [{"id": "b1", "reason": "mourning", "from": "2026-12-20", "until": "2026-12-27"}],
}
DEBT: dict[str, Any] = {
    "borrower": "B-1",
    "creditor": "acme",
    "product": "cash_loan",
    "due_date": "2026-11-30",
    "balance": {"amount": "1280.50", "currency": "CNY"},
    "governing_law": "CN",
    "state": "open",
}
REMINDER: dict[str, Any] = {
    "idempotency_key": "L-1:2026-11-30:due",
    "borrower": {"id": "B-1", **BORROWER},
    "debt": {"id": "L-1", **DEBT},
    "purpose": "pre_due_reminder",
    "actor": {"role": "creditor", "id": "acme"},
    "channels": ["wechat", "sms"],
    "template": "pre_due",
    "facts": {"pay_url": "https://pay.example.com/L-1"},
    "anchor": {"due": "-3d", "at": "10:00"},
}
ACCEPTED: dict[str, Any] = {
    "id": "rm_01…",
    "idempotency_key": "L-1:2026-11-30:due",
    "state": "waiting",
    "accepted_at": "2026-11-24T02:00:00Z",
}
REMINDER_NOW: dict[str, Any] = {
    "id": "rm_01…",
    "idempotency_key": "L-1:2026-11-30:due",
    "state": "deferred",
    "reason": "CN.GBT.hours",
    "next_at": "2026-11-25T00:00:00Z",
    "expires_at": "2026-11-27T02:00:00Z",
    "borrower": "B-1",
    "debt": "L-1",
    "template": {"name": "pre_due", "version": 2},
    "decision": {"action": "defer", "channel": "sms", "until": "2026-11-25T00:00:00Z", "findings": []},
    "attempts": [],
}
UPDATED: dict[str, Any] = {"id": "B-1", "updated_at": "2026-11-24T02:00:00Z"}
BORROWER_NOW: dict[str, Any] = {
    "id": "B-1",
    "name": "Z***",
    "national_id": None,
    "language": "zh-CN",
    "addresses": [{"channel": "sms", "value": "138****8000", "kind": "personal", "country": "CN"}],
    "revision": 1,
    "updated_at": "2026-11-24T02:00:00Z",
}
EVENT: dict[str, Any] = {
    "idempotency_key": "L-1:paid",
    "type": "paid",
    "at": "2026-11-24T10:00:00+08:00",
    "amount": {"amount": "1280.50", "currency": "CNY"},
}
EVENT_DONE: dict[str, Any] = {"id": "ev_01…", "state": "paid", "stopped": ["rm_01…"], "too_late": []}
CONTACT: dict[str, Any] = {
    "idempotency_key": "call-77",
    "borrower": "B-1",
    "debt": "L-1",
    "channel": "voice",
    "direction": "outbound",
    "at": "2026-11-24T10:00:00+08:00",
    "outcome": "conversation",
    "actor": {"role": "agency", "id": "north-desk"},
    "technology": "live",
}
QUESTION: dict[str, Any] = {
    "borrower": "B-1",
    "debt": "L-1",
    "channel": "voice",
    "purpose": "collection",
    "actor": {"role": "agency", "id": "north-desk"},
    "technology": "live",
}
