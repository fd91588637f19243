"""Drawn packs and cases in the JSON form, thick with edges: nights of the clock, year's end, leap day."""

from datetime import UTC, datetime, timedelta

from rule_draws import (
    ADAPTERS,
    CALENDARS,
    CHANNELS,
    DAYS,
    FORMS,
    INSTITUTIONS,
    LIKELY,
    OUTCOMES,
    PRODUCTS,
    PURPOSES,
    REASONS,
    ROLES,
    TECHNOLOGIES,
    ZONES,
    day,
    hours,
    often,
    rule,
    some,
)

from gateway.policy.calendars import Override

NIGHTS = [(2026, 11, 20), (2027, 3, 12), (2026, 10, 2), (2027, 4, 2), (2028, 2, 27), (2026, 12, 30)]
NIGHTS += [(2026, 9, 5), (2026, 10, 24), (2026, 10, 31), (2027, 3, 27), (2011, 12, 28), (2010, 11, 6)]
IDS = [f"R{place}" for place in range(4)]
HOUR, DAY = 3600, 86_400


def iso(instant):
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def near(r, now):
    """An instant where rules about `now` tip over: whole days, hours or seconds away, mostly before it."""
    far = [r.randint(-9 * DAY, 3 * DAY), -r.randint(0, 40) * HOUR, r.randint(-3, 3) * DAY, 0]
    return iso(now + timedelta(seconds=r.choice(far)))


def chosen(r, choices):
    """Some of these keys, each with one of its values; a key that is left out may be null."""
    found = {}
    for key, (share, words) in choices.items():
        if often(r, share):
            found[key] = r.choice(words)
        elif often(r, 0.04):
            found[key] = None
    return found


def parties(r):
    choices = {"borrower": ["P1", "P2"], "debt": ["D1", "D2"], "creditor": ["K1"], "address": ["N1", "N2"]}
    keys = {key: (0.8, words) for key, words in choices.items()}
    keys |= {"actor": (0.5, ["A1", "A2"]), "technology": (0.5, TECHNOLOGIES), "adapter": (0.6, ADAPTERS)}
    return chosen(r, keys)


def event(r, now):
    keys = {"at": near(r, now), "channel": r.choice(CHANNELS[:6]), **parties(r)}
    outcomes = [*OUTCOMES, "conversation", "no_answer", "busy"]
    roles = ["spouse", "debtor"]
    keys |= chosen(
        r, {"outcome": (0.9, outcomes), "flags": (0.2, [["a"], ["b"]]), "recipient_role": (0.2, roles)}
    )
    if often(r, 0.1):
        keys["at"] = keys["at"].replace("Z", ".500Z")
    return keys


def reminder(r):
    choices = {
        "purpose": (0.4, PURPOSES),
        "flags": (0.2, [["a"], ["b"]]),
        "recipient_role": (0.3, ["spouse"]),
        "address_kind": (0.3, ["workplace", "home"]),
        "actor_role": (0.5, ROLES),
        "institution": (0.5, INSTITUTIONS),
        "product": (0.5, PRODUCTS),
    }
    return {"channel": r.choice(CHANNELS[:5]), **parties(r), **chosen(r, choices)}


def facts(r, now):
    found = {}
    for name, share in (("d1", 0.8), ("d2", 0.8), ("d3", 0.4)):
        if often(r, share):
            at = now + timedelta(seconds=r.randint(-6 * DAY, 2 * DAY))
            found[name] = r.choice([iso(at), at.date().isoformat()])
    if often(r, 0.1):
        found["h1"] = r.choice([True, False, None, 0, "x"])
    if often(r, 0.1):
        found["contact_refused"] = r.choice([True, False])
    if often(r, 0.3):
        found["dpd"] = r.choice([0, 15, 16, False, None, 1.5])
    if often(r, 0.4):
        far = [r.randint(-9000, 90000), -300, -301, 0]
        found["optout_at"] = iso(now + timedelta(seconds=r.choice(far))).replace(
            "Z", r.choice(["Z", ".500Z"])
        )
    return found


def consent(r, now):
    keys = {"kind": r.choice(["contact", "relax", "relax"]), "rules": some(r, IDS), "given_at": near(r, now)}
    keys |= chosen(r, {"channel": (0.5, ["all", *CHANNELS[:5]]), "form": (0.85, FORMS)})
    for key in ("until", "revoked_at"):
        if often(r, 0.25):
            keys[key] = iso(now + timedelta(seconds=r.choice([0, HOUR, r.randint(-DAY, 3 * DAY)])))
    return keys


def asked(r, now):
    keys = {"kind": r.choice(["allow", "allow", "deny"])}
    if often(r, 0.75):
        keys |= hours(r)
    choices = {"on": (0.4, [some(r, DAYS)]), "channels": (0.3, [some(r, [*CHANNELS[:5], "chat"])])}
    choices |= {"address_kinds": (0.2, [["workplace"]])}
    return keys | chosen(
        r, choices | {"since": (0.2, [day(r, now, -3, 4)]), "until": (0.2, [day(r, now, -2, 5)])}
    )


def blackout(r, now):
    until = {"until": day(r, now, -1, 5)} if often(r, 0.8) else {}
    return {"reason": r.choice(REASONS), "since": day(r, now, -3, 3), **until}


def told(r, now):
    return {
        "consents": [consent(r, now) for _ in range(r.randint(0, 4))],
        "windows": [asked(r, now) for _ in range(r.randint(0, 3))],
        "blackouts": [blackout(r, now) for _ in range(r.randint(0, 2))],
    }


def overrides(r, now, names=None):
    """What an operator may have stated: of some calendars up to two stretches of dates that do not overlap."""
    found = []
    for name in names or r.sample(CALENDARS, r.choice([0, 0, 0, 1, 3])):
        begins = now.date() + timedelta(days=r.randint(-3, 4))
        for _ in range(r.randint(1, 2)):
            dates = [begins + timedelta(days=place) for place in range(r.randint(1, 4))]
            found.append(
                Override(calendar=name, begins=dates[0], ends=dates[-1], source="", **stated(r, name, dates))
            )
            begins = dates[-1] + timedelta(days=r.randint(1, 3))
    return found


def stated(r, name, dates):
    free = frozenset(day for day in dates if often(r, 0.4))
    made_up = (day for day in dates if day.weekday() >= 5 and often(r, 0.5))
    return {"holidays": free, "workdays": frozenset(made_up) - free if name == "CN" else frozenset()}


def case(r, kinds=LIKELY):
    """A case and the rules of its one pack, the first of one of these kinds."""
    base = datetime(*r.choice(NIGHTS), tzinfo=UTC)
    now = base + timedelta(seconds=r.choice([r.randint(0, 3 * DAY), 900 * r.randint(0, 288)]))
    names = IDS[: r.randint(1, len(IDS))]
    rules = [rule(r, name, base, LIKELY if place else kinds) for place, name in enumerate(names)]
    return rules, {
        "id": "C",
        "packs": ["A"],
        "zones": r.sample(ZONES, r.randint(1, 3)),
        "now": iso(now),
        "reminder": reminder(r),
        "history": [event(r, now) for _ in range(r.randint(0, 8))],
        "facts": facts(r, now),
        **told(r, now),
        "horizon_days": r.choice([1, 2, 3, 5]),
    }
