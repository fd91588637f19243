"""The rule language once more, plain and slow: one instant at a time, straight from the JSON form.

It shares nothing with gateway.policy but the calendars' coverage and the time-zone data.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import holidays

import gateway.policy.localtime  # noqa: F401 (it shuts the system's time-zone data)
from gateway.policy.calendars import coverage

CHAT = {"wechat", "wecom", "whatsapp"}
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


def read(text):
    return datetime.fromisoformat(text)


def is_set(case, name):
    value = case["facts"].get(name)
    return value is not None and value is not False


def fact_day(case, name, zone):
    text = case["facts"][name]
    return date.fromisoformat(text) if len(text) == 10 else read(text).astimezone(zone).date()


def names(channels):
    return set(channels) - {"chat"} | (CHAT if "chat" in channels else set())


def concerned(rule, case):
    reminder = case["reminder"]
    if "channels" in rule and reminder["channel"] not in names(rule["channels"]):
        return False
    if reminder.get("purpose") in rule.get("exempt_purposes", []):
        return False
    return not set(reminder.get("flags", [])) & set(rule.get("exempt_flags", []))


def same(rule, case, event):
    mine = {"recipient_role": "debtor"} | case["reminder"]
    theirs = {"recipient_role": "debtor"} | event
    return all(
        key not in mine or key not in theirs or mine[key] == theirs[key] for key in rule.get("per", [])
    )


def on_channels(rule, event):
    return "channels" not in rule or event["channel"] in names(rule["channels"])


def existing(case, now):
    events = [event for event in case["history"] if read(event["at"]).replace(microsecond=0) <= now]
    return sorted(events, key=lambda event: read(event["at"]).replace(microsecond=0))


def ago(now, event):
    return (now - read(event["at"]).replace(microsecond=0)).total_seconds()


def dates_ago(now, event, zone):
    return (now.astimezone(zone).date() - read(event["at"]).astimezone(zone).date()).days


def in_span(span, now, event, zone):
    today, day = now.astimezone(zone).date(), read(event["at"]).astimezone(zone).date()
    match span["type"]:
        case "day":
            return today == day
        case "dates":
            return 0 <= (today - day).days < span["n"]
        case "hours":
            return ago(now, event) < span["n"] * 3600
        case "minutes":
            return ago(now, event) < span["n"] * 60
        case "week":
            return today.isocalendar()[:2] == day.isocalendar()[:2]
        case "month":
            return (today.year, today.month) == (day.year, day.month)


def covered(name, day):
    return coverage(name).begins <= day <= coverage(name).ends


_YEARS = {}


def calendar(name, year):
    if (name, year) not in _YEARS:
        country, _, part = name.partition("-")
        _YEARS[name, year] = holidays.country_holidays(country, subdiv=part or None, years=year)
    return _YEARS[name, year]


def named_on(entry, day):
    if entry["on"] != "workday:CN":
        return DAYS[day.weekday()] in entry["on"]
    china = calendar("CN", day.year)
    return day in china.weekend_workdays if day.weekday() >= 5 else day not in china


def window(rule, case, now, zone):
    kind = case["reminder"].get("address_kind")
    if "address_kinds" in rule and kind not in rule["address_kinds"]:
        return False
    if "not_if" in rule:
        value = case["facts"].get(rule["not_if"]["fact"])
        if (0 if value is None or value is False else value) > rule["not_if"]["gt"]:
            return False
    local = now.astimezone(zone)
    day, clock = local.date(), local.strftime("%H:%M:%S")
    entries = list(rule["days"])
    calendars = [rule.get("closed_on_holidays"), rule.get("holiday_as", {}).get("calendar")]
    if any(entry["on"] == "workday:CN" for entry in entries):
        calendars.append("workday:CN")
    if any(name and not covered(name, day) for name in calendars):
        return True
    if calendars[0] and day in calendar(calendars[0], day.year):
        return True
    hours = [entry for entry in entries if named_on(entry, day)]
    if hours and calendars[1] and day in calendar(calendars[1], day.year):
        hours = [rule["holiday_as"]]
    return not any(entry["open"] + ":00" <= clock < entry["close"] + ":00" for entry in hours)


def cap(rule, case, now, zone):
    events = [event for event in existing(case, now) if same(rule, case, event)]
    if "only_after" in rule and not any(
        event.get("outcome", "unknown") == rule["only_after"] != "unknown" for event in events
    ):
        return False
    counted = 0
    for event in events:
        outcome = event.get("outcome", "unknown")
        if not on_channels(rule, event) or not in_span(rule["window"], now, event, zone):
            continue
        if set(event.get("flags", [])) & set(rule.get("exclude_flags", [])):
            continue
        if outcome != "unknown":
            if "count_outcomes" in rule and outcome not in rule["count_outcomes"]:
                continue
            if outcome in rule.get("exclude_outcomes", []):
                continue
        counted += 1
    return counted + 1 > rule["max"]


def too_recent(rule, now, event, zone):
    if "dates" in rule:
        return dates_ago(now, event, zone) < rule["dates"]
    return ago(now, event) < rule["hours"] * 3600


def cooldown(rule, case, now, zone):
    return any(
        event.get("outcome", "unknown") == rule["after"] != "unknown" and too_recent(rule, now, event, zone)
        for event in existing(case, now)
        if same(rule, case, event) and on_channels(rule, event)
    )


def spacing(rule, case, now, zone):
    return any(
        too_recent(rule, now, event, zone)
        for event in existing(case, now)
        if same(rule, case, event) and on_channels(rule, event)
    )


def channel_lock(rule, case, now, zone):
    used = {
        event["channel"]
        for event in existing(case, now)
        if same(rule, case, event)
        and event.get("outcome", "unknown") == rule["after"] != "unknown"
        and in_span(rule["window"], now, event, zone)
    }
    return bool(used) and case["reminder"]["channel"] not in used


def prerequisite(rule, case, now, zone):
    if not is_set(case, rule["fact"]):
        return True
    return (now.astimezone(zone).date() - fact_day(case, rule["fact"], zone)).days < rule["dates"]


def allowed(rule, case):
    return case["reminder"].get("purpose") in rule.get("allow_purposes", [])


def hold(rule, case, now, zone):
    return is_set(case, rule["fact"]) and not allowed(rule, case)


def hold_until(rule, case, now, zone):
    if not is_set(case, rule["fact"]) or allowed(rule, case):
        return False
    if "unless" in rule and is_set(case, rule["unless"]):
        return False
    first = fact_day(case, rule["fact"], zone) + timedelta(days=rule["plus_dates"])
    return now.astimezone(zone).date() < first


def opt_out(rule, case, now, zone):
    if not is_set(case, "optout_at"):
        return False
    since = (now - read(case["facts"]["optout_at"]).replace(microsecond=0)).total_seconds()
    if since < 0:
        return False
    confirms = case["reminder"].get("purpose") == "optout_confirmation" and "confirm_within_s" in rule
    return not (confirms and since <= rule["confirm_within_s"])


def third_party(rule, case, now, zone):
    if case["reminder"].get("recipient_role", "debtor") not in rule["roles"]:
        return False
    run = []
    for event in existing(case, now):
        if event["channel"] == "voice" and event.get("recipient_role", "debtor") == "debtor":
            fails = event.get("outcome") in ("no_answer", "busy", "invalid")
            run = [*run, event] if fails else []
    if len(run) < rule["fails"]:
        return True
    return dates_ago(now, run[rule["fails"] - 1], zone) < rule["delay_dates"]


def refusal(rule, case, now, zone):
    return case["reminder"].get("recipient_role", "debtor") in rule["roles"] and is_set(
        case, "contact_refused"
    )


KINDS = {f.__name__: f for f in (window, cap, cooldown, spacing, channel_lock, prerequisite)} | {
    f.__name__: f for f in (hold, hold_until, opt_out, third_party, refusal)
}


def would_object(rule, case, now):
    """Whether the rule, draft or not, is against it at that instant in one of its zones."""
    if not concerned(rule, case):
        return False
    for name in [rule["zone"].removeprefix("fixed:")] if "zone" in rule else case["zones"]:
        zone = ZoneInfo(name)
        today = now.astimezone(zone).date().isoformat()
        in_force = rule.get("since", "0001-01-01") <= today < rule.get("until", "9999-99-99")
        if in_force and KINDS[rule["kind"]](rule, case, now, zone):
            return True
    return False


def objecting(rules, case, now):
    return [rule["id"] for rule in rules if rule.get("force") != "draft" and would_object(rule, case, now)]


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)
