"""Drawn rules in the JSON form: every kind and every key, each with the numbers where it tips over."""

from datetime import timedelta

DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
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
PER = ["borrower", "debt", "creditor", "address", "recipient_role", "actor"]
CALENDARS = ["US", "CA-ON", "GB", "AU-NSW", "DE", "CN", "TH", "ID", "GR", "CO", "RU", "IN", "IN-KA"]
FORMS = ["oral", "written", "separate"]
PURPOSES = ["collection", "optout_confirmation"]
ROLES = ["creditor", "servicer", "agency", "debt_buyer", "law_firm"]
INSTITUTIONS = ["bank", "lender"]
PRODUCTS = ["card", "mortgage"]
TECHNOLOGIES = ["live", "prerecorded", "ai_voice"]
ADAPTERS = ["mail", "pigeon", "telegraph"]
REASONS = ["bereavement", "festival"]

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


def often(r, share):
    return r.random() < share


def some(r, words, most=None):
    """At least one of these words."""
    return r.sample(words, r.randint(1, most or len(words)))


def clock(minutes):
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def hours(r):
    opens = r.choice([r.randint(0, 1438), r.randint(0, 22) * 60])
    closes = r.choice([r.randint(opens + 1, 1440), 1440, opens + 1])
    return {"open": clock(opens), "close": clock(closes)}


def day(r, base, first, last):
    return (base + timedelta(days=r.randint(first, last))).date().isoformat()


def span(r):
    kind = r.choice(["day", "dates", "hours", "minutes", "week", "month"])
    counts = {"dates": [1, 2, 3, 7, 30], "hours": [1, 2, 24, 48], "minutes": [1, 30, 90, 1440]}
    return {"type": kind, **({"n": r.choice(counts[kind])} if kind in counts else {})}


def window(r):
    names = [DAYS, DAYS, some(r, DAYS, 6), "workday:CN"]
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
    if often(r, 0.4):
        keys["count_outcomes"] = r.sample(OUTCOMES, r.randint(0, 6))
    if often(r, 0.4):
        keys["exclude_outcomes"] = r.sample(OUTCOMES, r.randint(0, 6))
    if often(r, 0.3):
        keys["exclude_flags"] = r.sample(["a", "b"], r.randint(0, 2))
    if often(r, 0.25):
        keys["only_after"] = r.choice(OUTCOMES)
    if often(r, 0.15):
        keys["address_kinds"] = some(r, ["workplace", "home"])
    return keys


def rest(r):
    amount = {"dates": r.choice([0, 1, 2, 3, 7])} if often(r, 0.5) else {"hours": r.choice([0, 1, 24, 48])}
    return {**amount, "per": r.sample(PER, r.randint(0, 3))}


def let_through(r):
    return {"allow_purposes": ["collection"]} if often(r, 0.3) else {}


def prerequisite(r):
    keys = {"fact": r.choice(["d1", "d2"]), "dates": r.choice([0, 1, 3, 6])}
    return keys | ({"within_dates": r.choice([0, 1, 3, 6])} if often(r, 0.5) else {})


def hold_until(r):
    keys = {"fact": r.choice(["d1", "d2"]), "plus_dates": r.choice([0, 1, 2]), **let_through(r)}
    return keys | ({"unless": "h1"} if often(r, 0.3) else {})


def third_party(r):
    roles = r.choice([["spouse"], ["debtor"], ["debtor", "spouse"]])
    keys = {"roles": roles, "fails": r.choice([1, 2, 3]), "delay_dates": r.choice([0, 1, 2])}
    return keys | ({"only_purposes": some(r, PURPOSES)} if often(r, 0.3) else {})


def consent_required(r):
    keys = {"form": r.choice(FORMS)} if often(r, 0.7) else {}
    return keys | ({"unless": "h1"} if often(r, 0.3) else {})


def coverage(r):
    keys = {"calendars": some(r, [*CALENDARS, "workday:CN"], 2)} if often(r, 0.8) else {}
    return keys | ({"tzdata": r.choice(["2020a", "2026a", "2099a"])} if not keys or often(r, 0.2) else {})


def retention(r):
    bound = {
        r.choice(["years", "days"]): r.choice([1, 5]),
        "from": r.choice(["event", "last_contact", "closure"]),
    }
    return {"records": some(r, ["decision", "message", "recording"]), r.choice(["min", "max"]): bound}


KINDS = {
    "window": window,
    "cap": cap,
    "cooldown": lambda r: {"after": r.choice(OUTCOMES), **rest(r)},
    "spacing": rest,
    "channel_lock": lambda r: {"after": r.choice(OUTCOMES), "window": span(r), "per": r.sample(PER, 1)},
    "prerequisite": prerequisite,
    "hold": lambda r: {"fact": r.choice(["h1", "d1"]), **let_through(r)},
    "hold_until": hold_until,
    "opt_out": lambda r: {"confirm_within_s": r.choice([0, 300, 7200])} if often(r, 0.7) else {},
    "third_party": third_party,
    "refusal": lambda r: {"roles": r.choice([["spouse"], ["debtor"]])},
    "borrower_window": lambda _: {},
    "blackout": lambda r: {"reasons": some(r, REASONS)} if often(r, 0.5) else {},
    "consent_required": consent_required,
    "coverage": coverage,
    "review": lambda r: {"fact": r.choice(["h1", "d1"]), **let_through(r)},
    "content": lambda r: {r.choice(["require", "forbid"]): ["optout_instruction"]},
    "retention": retention,
}
LIKELY = [*KINDS, "window", "window", "cap", "cap", "borrower_window", "consent_required"]


def fact_date(r):
    return {"fact": r.choice(["d1", "d2", "d3"]), "plus_dates": r.randint(-2, 4)}


def relaxed_by(r):
    keys = {"form": r.choice(FORMS)} if often(r, 0.9) else {}
    if often(r, 0.4):
        keys["dates"] = r.choice([1, 2, 3, 7])
    return keys | ({"flag": "a"} if often(r, 0.3) else {})


def in_time(r, base):
    """When the rule is in force."""
    keys = {}
    if often(r, 0.12):
        keys["since"] = day(r, base, -3, 4)
    if often(r, 0.12):
        keys["until"] = day(r, base, -3, 6)
    if often(r, 0.12):
        keys["since_fact"] = fact_date(r)
    if often(r, 0.12):
        keys["until_fact"] = fact_date(r)
    return keys


def scope(r):
    """Whom and what the rule concerns."""
    lists = {
        "channels": (0.3, [*CHANNELS, "chat"]),
        "purposes": (0.06, PURPOSES),
        "actors": (0.06, ROLES),
        "institutions": (0.06, INSTITUTIONS),
        "products": (0.06, PRODUCTS),
        "technologies": (0.15, TECHNOLOGIES),
        "adapters": (0.15, ADAPTERS),
        "exempt_purposes": (0.06, PURPOSES),
        "exempt_flags": (0.06, ["a", "b"]),
    }
    return {key: some(r, words) for key, (share, words) in lists.items() if often(r, share)}


def rule(r, name, base, kinds=LIKELY):
    kind = r.choice(kinds)
    keys = {"id": name, "kind": kind, **KINDS[kind](r), **scope(r), **in_time(r, base)}
    if often(r, 0.3):
        keys["zone"] = "fixed:" + r.choice(ZONES)
    if often(r, 0.1):
        keys["force"] = r.choice(["draft", "law", "self"])
    if often(r, 0.3):
        keys["relaxed_by"] = relaxed_by(r)
    if often(r, 0.05):
        keys["unsure"] = "only a summary was read"
    if often(r, 0.05):
        keys["note"] = "a note"
    return keys
