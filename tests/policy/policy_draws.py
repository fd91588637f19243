"""Drawn packs and cases in the JSON form, thick with edges: nights of the clock, year's end, leap day."""

from datetime import UTC, datetime, timedelta

from policy_oracle import DAYS

ZONES = ["America/New_York", "America/Los_Angeles", "Asia/Shanghai", "Asia/Kolkata", "Pacific/Chatham"]
ZONES += ["Australia/Sydney", "Australia/Lord_Howe", "America/Santiago", "Europe/London", "America/Vancouver"]
ZONES += ["Pacific/Apia", "Africa/Casablanca", "America/Havana", "Asia/Kathmandu", "UTC", "America/St_Johns"]
ZONES += [
    "Pacific/Kiritimati",
    "Pacific/Honolulu",
    "Asia/Gaza",
    "America/Nuuk",
    "Africa/Cairo",
    "Asia/Beirut",
]
NIGHTS = [(2026, 11, 20), (2027, 3, 12), (2026, 10, 2), (2027, 4, 2), (2028, 2, 27), (2026, 12, 30)]
NIGHTS += [(2026, 9, 5), (2026, 10, 24), (2026, 10, 31), (2027, 3, 27), (2011, 12, 28)]
CHANNELS = ["sms", "email", "voice", "wechat", "wecom", "whatsapp", "letter", "fax", "visit"]
OUTCOMES = [
    "sent",
    "delivered",
    "read",
    "undelivered",
    "failed",
    "answered",
    "voicemail",
    "no_answer",
    "busy",
]
OUTCOMES += ["invalid", "conversation", "unknown"]
PER = ["borrower", "debt", "creditor", "address", "recipient_role"]
CALENDARS = ["US", "CA-ON", "GB", "AU-NSW", "DE", "CN", "TH", "ID", "GR", "CO", "RU"]


def iso(instant):
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def often(r, share):
    return r.random() < share


def hours(r):
    opens = r.choice([r.randint(0, 1438), r.randint(0, 22) * 60])
    closes = r.choice([r.randint(opens + 1, 1440), 1440, opens + 1])
    return {"open": clock(opens), "close": clock(closes)}


def clock(minutes):
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def span(r):
    kind = r.choice(["day", "dates", "hours", "minutes", "week", "month"])
    counts = {"dates": [1, 2, 3, 7, 30], "hours": [1, 2, 24, 48], "minutes": [1, 30, 90, 1440]}
    return {"type": kind, **({"n": r.choice(counts[kind])} if kind in counts else {})}


def window(r):
    names = [DAYS, DAYS, r.sample(DAYS, r.randint(1, 6)), "workday:CN"]
    keys = {"days": [{"on": r.choice(names), **hours(r)} for _ in range(r.randint(1, 2))]}
    if often(r, 0.2):
        keys["closed_on_holidays"] = r.choice(CALENDARS)
    if often(r, 0.2):
        keys["holiday_as"] = {"calendar": r.choice(CALENDARS), **hours(r)}
    if often(r, 0.1):
        keys["address_kinds"] = ["workplace"]
    if often(r, 0.1):
        keys["not_if"] = {"fact": "dpd", "gt": r.choice([0, 15, -1])}
    return keys


def cap(r):
    keys = {"max": r.choice([0, 1, 1, 2, 3]), "window": span(r), "per": r.sample(PER, r.randint(0, 3))}
    if often(r, 0.5):
        keys[r.choice(["count_outcomes", "exclude_outcomes"])] = r.sample(OUTCOMES, r.randint(0, 6))
    if often(r, 0.3):
        keys["exclude_flags"] = r.sample(["a", "b"], r.randint(0, 2))
    if often(r, 0.25):
        keys["only_after"] = r.choice(OUTCOMES)
    return keys


def rest(r):
    amount = {"dates": r.choice([0, 1, 2, 3, 7])} if often(r, 0.5) else {"hours": r.choice([0, 1, 24, 48])}
    return {**amount, "per": r.sample(PER, r.randint(0, 3))}


def held(r):
    return {"allow_purposes": ["collection"]} if often(r, 0.3) else {}


KINDS = {
    "window": window,
    "cap": cap,
    "cooldown": lambda r: {"after": r.choice(OUTCOMES), **rest(r)},
    "spacing": rest,
    "channel_lock": lambda r: {"after": r.choice(OUTCOMES), "window": span(r), "per": r.sample(PER, 1)},
    "prerequisite": lambda r: {"fact": r.choice(["d1", "d2"]), "dates": r.choice([0, 1, 3, 6])},
    "hold": lambda r: {"fact": r.choice(["h1", "d1"]), **held(r)},
    "hold_until": lambda r: (
        {"fact": r.choice(["d1", "d2"]), "plus_dates": r.choice([0, 1, 2]), **held(r)}
        | ({"unless": "h1"} if often(r, 0.3) else {})
    ),
    "opt_out": lambda r: {"confirm_within_s": r.choice([0, 300, 7200])} if often(r, 0.7) else {},
    "third_party": lambda r: {
        "roles": r.choice([["spouse"], ["debtor"], ["debtor", "spouse"]]),
        "fails": r.choice([1, 2, 3]),
        "delay_dates": r.choice([0, 1, 2]),
    },
    "refusal": lambda r: {"roles": r.choice([["spouse"], ["debtor"]])},
}


def rule(r, name, base):
    kind = r.choice([*KINDS, "window", "cap", "cap"])
    keys = {"id": name, "kind": kind, **KINDS[kind](r)}
    if often(r, 0.4):
        keys["channels"] = r.sample([*CHANNELS, "chat"], r.randint(1, 6))
    if often(r, 0.3):
        keys["zone"] = "fixed:" + r.choice(ZONES)
    if often(r, 0.15):
        keys["since"] = (base + timedelta(days=r.randint(-3, 4))).date().isoformat()
    if often(r, 0.15):
        keys["until"] = (base + timedelta(days=r.randint(-3, 6))).date().isoformat()
    if often(r, 0.1):
        keys["force"] = r.choice(["draft", "law", "self"])
    if often(r, 0.1):
        keys["exempt_purposes"] = [r.choice(["collection", "optout_confirmation"])]
    if often(r, 0.1):
        keys["exempt_flags"] = [r.choice(["a", "b"])]
    return keys


def keys_of(r):
    choices = {"borrower": ["P1", "P2"], "debt": ["D1", "D2"], "creditor": ["K1"], "address": ["N1", "N2"]}
    return {key: r.choice(values) for key, values in choices.items() if often(r, 0.8)}


def event(r, now):
    far = [r.randint(-9 * 86400, 3 * 86400), -r.randint(0, 40) * 3600, r.randint(-3, 3) * 86400, 0]
    keys = {
        "at": iso(now + timedelta(seconds=r.choice(far))),
        "channel": r.choice(CHANNELS[:6]),
        **keys_of(r),
    }
    if often(r, 0.9):
        keys["outcome"] = r.choice([*OUTCOMES, "conversation", "no_answer", "busy"])
    if often(r, 0.2):
        keys["flags"] = [r.choice(["a", "b"])]
    if often(r, 0.2):
        keys["recipient_role"] = r.choice(["spouse", "debtor"])
    if often(r, 0.1):
        keys["at"] = keys["at"].replace("Z", ".500Z")
    return keys


def reminder(r):
    keys = {"channel": r.choice(CHANNELS[:5]), **keys_of(r)}
    if often(r, 0.4):
        keys["purpose"] = r.choice(["collection", "optout_confirmation"])
    if often(r, 0.2):
        keys["flags"] = ["a"]
    if often(r, 0.3):
        keys["recipient_role"] = "spouse"
    if often(r, 0.3):
        keys["address_kind"] = "workplace"
    return keys


def facts(r, now):
    found = {}
    for name in ("d1", "d2"):
        if often(r, 0.8):
            at = now + timedelta(seconds=r.randint(-6 * 86400, 2 * 86400))
            found[name] = r.choice([iso(at), at.date().isoformat()])
    if often(r, 0.1):
        found["h1"] = r.choice([True, False, None, 0, "x"])
    if often(r, 0.1):
        found["contact_refused"] = r.choice([True, False])
    if often(r, 0.3):
        found["dpd"] = r.choice([0, 15, 16, False, None, 1.5])
    if often(r, 0.5):
        far = [r.randint(-9000, 90000), -300, -301, 0]
        found["optout_at"] = iso(now + timedelta(seconds=r.choice(far)))
    return found


def case(r):
    """A case and the rules of its one pack."""
    base = datetime(*r.choice(NIGHTS), tzinfo=UTC)
    now = base + timedelta(seconds=r.choice([r.randint(0, 3 * 86400), 900 * r.randint(0, 288)]))
    rules = [rule(r, f"R{place}", base) for place in range(r.randint(1, 4))]
    return rules, {
        "id": "C",
        "packs": ["A"],
        "zones": r.sample(ZONES, r.randint(1, 3)),
        "now": iso(now),
        "reminder": reminder(r),
        "history": [event(r, now) for _ in range(r.randint(0, 8))],
        "facts": facts(r, now),
        "horizon_days": r.choice([1, 2, 3, 5]),
    }
