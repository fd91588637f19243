"""From rows to a decision and back: the shell around gateway.policy.gate, used by dispatch and by questions.

One reminder is weighed in three steps: lay out what is known (a `Snapshot`), let the gate decide, and, when it
says send, choose the account, render, and write the intent down. Nothing here waits for anything: keys are
fetched before the locks are taken (`prepare`), all else was read after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson
from orjson import Fragment

from gateway import outcomes
from gateway.accounts import Accounts, Connected, choose, ordered
from gateway.domain import Action, Channel, Handed, Money, Purpose, Rendered, Tenant, queue_of, to_us, ulid
from gateway.errors import BadInput, Fault
from gateway.masking import Pii
from gateway.outcomes import Called, Ways
from gateway.policy.content import breaches, concerning
from gateway.policy.explain import grounds_json, outline_json
from gateway.policy.gate import Alike, Decision, Reachable, decide
from gateway.policy.inputs import written
from gateway.policy.inuse import digest_of, members
from gateway.policy.localtime import zone
from gateway.policy.model import Question
from gateway.policy.overrides import Overrides
from gateway.policy.packs import Packs, with_overrides
from gateway.policy.zones import Zones
from gateway.ports import Adapter, Entry, Moment
from gateway.quotas.model import Load
from gateway.sendlog.record import canonical
from gateway.snapshot import Ask, events, snapshot, zones_of
from gateway.standing import Ending, Standing
from gateway.telemetry import get
from gateway.templating import Catalog, Template, Values, render
from gateway.templating.said import rendered_said
from gateway.texts import Keys, SubjectKey, Vault, open_address, pack_text
from gateway.values import dataclass
from gateway.work import (
    AddressRow,
    Attempt,
    BorrowerRow,
    DebtRow,
    Facts,
    Ground,
    Intent,
    Key,
    Past,
    Refusal,
    Start,
    Step,
    Verdict,
    Work,
    step_after,
)

log = get(__name__)

LOOK_AGAIN = timedelta(minutes=15)
MOST_GROUNDS = 256
"""Different grounds that are remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A reminder that may be called: what to say, to whom, through whom, and until when."""

    work: Work
    intent: Intent
    adapter: Adapter
    ways: Ways
    address: Pii[str]
    rendered: Rendered
    at: datetime
    """The real instant it was decided at; providers know no other clock."""
    deliver_by: datetime
    """The real instant after which the provider must not deliver."""
    next_step: Step | None
    weight: int = 1
    """Its tenant's share of the account."""

    @property
    def key(self) -> Key:
        """The attempt's."""
        return self.work.tenant, self.intent.ref

    @property
    def person(self) -> Key:
        """Whose caps it counts in."""
        return self.work.tenant, self.work.person

    def ending(self, handed: Handed) -> Ending:
        """What the end of the call says of its account."""
        return Ending(
            pool=self.intent.start.load.pool, adapter=self.intent.adapter, handed=handed, ref=self.intent.ref
        )

    def called(self, attempt: Attempt) -> Called:
        """What the ending of the call is judged by."""
        return Called(
            attempt=attempt,
            ways=self.ways,
            tries=self.work.tries,
            expires_at=self.work.expires_at,
            next_step=self.next_step,
        )


@dataclass(slots=True, kw_only=True)
class Weighed:
    """What one batch came to."""

    ready: list[Ready] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a channel can be gone: an address and the account that serves it."""

    address: AddressRow
    connected: Connected

    def reachable(self) -> Reachable:
        """As the gate sees it."""
        return Reachable(
            address_key=self.address.key,
            kind=self.address.kind,
            technology=self.connected.adapter.technology,
            adapter=self.connected.account.adapter,
        )


class Desk:
    """Weighs reminders. Holds no state but caches of what is configured."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        packs: Packs,
        stated: Overrides,
        accounts: Accounts,
        vault: Vault,
        entropy: Callable[[int], bytes],
        standings: Callable[[], Mapping[str, Standing]] = dict,
    ) -> None:
        self._standings = standings
        self._catalog = catalog
        self._packs = packs
        self._policy = digest_of(members(packs)) if isinstance(packs, tuple) else None
        self._stated = stated
        self._accounts = accounts
        self._vault = vault
        self._entropy = entropy
        self._tuned: dict[tuple[tuple[str, int], ...], Packs] = {}
        self._alike = Alike()
        self._grounds = Grounds()

    async def prepare(self, keys: Iterable[Key]) -> Keys:
        """Fetch the data keys of these borrowers, before any lock is taken."""
        return await self._vault.keys(sorted(set(keys)), create=False)

    def weigh(
        self,
        works: Sequence[Work],
        facts: Facts,
        keys: Keys,
        moment: Moment,
        permit: timedelta,
    ) -> Weighed:
        """Decide on each, one after another; each sees the intents of those before it."""
        weighed = Weighed()
        for work in works:
            self.weigh_one(work, facts, keys, moment, permit, lambda _start: None, weighed)
        return weighed

    def weigh_one(
        self,
        work: Work,
        facts: Facts,
        keys: Keys,
        moment: Moment,
        permit: timedelta,
        refusal: Callable[[Start], Refusal | None],
        weighed: Weighed,
    ) -> None:
        """Decide on one more; `refusal` says why a start would get no go now: then no intent is made."""
        decision, ready, faults = self._judge(work, facts, keys, moment, permit)
        refused = refusal(ready.intent.start) if ready is not None else None
        if ready is not None and refused is not None:
            self._put_off(work, decision, ready, refused, moment, weighed)
            return
        decision = _until_free(decision, facts.history.get((work.tenant, work.person), ()))
        ground = self._grounds.of(decision)
        said = _said(decision, ground, {"faults": list(map(_told, faults))} if faults else {})
        contacted = facts.contacted.get((work.tenant, work.id))
        verdict = _verdict(work, decision, said, ground, ready, moment, contacted)
        if faults:
            weighed.entries.append(_unfit(work, faults, moment))
        weighed.verdicts.append(verdict)
        read = _read(decision, facts.overrides.get(work.tenant, {}), permit)
        where = {"person": work.person, "place": len(weighed.verdicts) - 1, "policy": self._policy}
        weighed.entries.append(_decided(work, verdict, decision, said, read, ready, moment, where))
        if ready is not None:
            weighed.ready.append(ready)
            facts.history[work.tenant, work.person].append(_intended(ready, moment))

    def _put_off(
        self, work: Work, decision: Decision, ready: Ready, refused: Refusal, moment: Moment, weighed: Weighed
    ) -> None:
        """It may go, and its way is barred for now: it waits there. Only the first such refusal is recorded."""
        until = min(refused.again or work.expires_at, work.expires_at)
        load = ready.intent.start.load
        waits = queue_of(ready.intent.channel, work.tenant, work.template, work.priority)
        put_off = replace(
            decision, action=Action.DEFER, reason=refused.reason, until=until, again=True, deliver_by=None
        )
        ground = self._grounds.of(put_off)
        said = _said(put_off, ground, {"by": refused.by})
        moves = waits != work.queue
        verdict = Verdict(
            work=work,
            state="deferred",
            reason=refused.reason,
            by=refused.by,
            next_at=moment.policy if moves and refused.reason == "quota" else until,
            decision=said.decode(),
            ground=ground,
            channel=decision.channel,
            moves_to=waits if moves else None,
        )
        weighed.verdicts.append(verdict)
        if (work.reason, work.by) != (refused.reason, refused.by):
            weighed.entries.append(_refused(work, verdict, said, load, moment))

    def _judge(
        self, work: Work, facts: Facts, keys: Keys, moment: Moment, permit: timedelta
    ) -> tuple[Decision, Ready | None, Sequence[Fault]]:
        """The decision, with a send what is ready to go, and what is wrong with a text that may not go.

        Whatever breaks here is one reminder's own trouble: a text that cannot be made or may not be said ends it;
        anything else (a key that is gone, a row that does not fit) is a look-up that failed, and is looked at again.
        """
        try:
            ask = self._ask(work, facts)
            ways = self._ways(ask, facts, moment)
            decision = self._decide_around(ask, ways, facts, moment, permit)
            if decision.action is not Action.SEND:
                return decision, None, ()
            if (note := self._unusable(work, ask.template, facts)) is not None:
                return _unsaid(work, decision, note), None, ()
            try:
                return decision, self._ready(work, decision, ways, facts, keys, moment, permit), ()
            except BadInput as wrong:
                refused = replace(decision, action=Action.SUPPRESS, reason="rejected_content")
                return refused, None, wrong.faults
        except Exception as wrong:  # noqa: BLE001 (one bad row must not hold up its whole queue for ever)
            log.warning("reminder_broken", reminder=work.id, error=type(wrong).__name__)
            return _unknown(work, moment), None, ()

    def _unusable(self, work: Work, template: Template | None, facts: Facts) -> str | None:
        """Why this process cannot say what was accepted; one whose catalog is newer may. A newer text may be said."""
        if template is None or template.version < work.template_version:
            return f"this worker's catalog has no {work.template} of version {work.template_version}"
        if not template.may_be_said(facts.approvals.get(work.tenant, {})):
            return f"{template.name} of version {template.version} is not approved"
        return None

    def _ask(self, work: Work, facts: Facts) -> Ask:
        return Ask(
            tenant=work.tenant,
            person=work.person,
            borrower=work.borrower,
            debt=work.debt,
            purpose=work.purpose,
            actor=work.actor_id,
            actor_role=work.actor_role,
            recipient_role=work.recipient_role,
            channels=_channels(work),
            expires_at=work.expires_at,
            not_before=work.not_before,
            template=self._catalog.get(work.template),
            duplicate=(work.tenant, work.id) in facts.duplicates,
            tries=work.tries,
            reminder=work.id,
        )

    def _ways(self, ask: Ask, facts: Facts, moment: Moment) -> dict[Channel, list[Way]]:
        """For each channel the living addresses with each account that can serve them with this template."""
        found: dict[Channel, list[Way]] = {}
        for address in facts.addresses.get((ask.tenant, ask.borrower), ()):
            if address.channel in ask.channels:
                for connected in self._serving(ask, address, moment):
                    found.setdefault(address.channel, []).append(Way(address=address, connected=connected))
        return found

    def _serving(self, ask: Ask, address: AddressRow, moment: Moment) -> list[Connected]:
        """The accounts for an address, the one to try first of all before the others."""
        able = [
            connected
            for connected in self._accounts.of(ask.tenant, address.channel)
            if connected.serves(address.country) and self._carries(connected, ask.template)
        ]
        if len(able) <= 1:
            return able
        chosen, _ = choose(able, ask.reminder, ask.tries, self._standings(), moment)
        return [chosen, *(one for one in ordered(able, ask.reminder, ask.tries) if one is not chosen)]

    def _carries(self, connected: Connected, template: Template | None) -> bool:
        if template is None or connected.adapter.takes_free_text:
            return True
        return template.bound(connected.account.adapter, connected.account.name) is not None

    def ways_of(self, tenant: Tenant, channel: Channel, template: str) -> list[Connected]:
        """The accounts through which reminders of a queue can go, whatever their address."""
        known = self._catalog.get(template)
        return [c for c in self._accounts.of(tenant, channel) if self._carries(c, known)]

    def by_country(self) -> bool:
        """Whether any account serves some countries alone."""
        return self._accounts.by_country()

    def bound(self, tenant: Tenant, template: Template, channel: Channel) -> bool:
        """Whether an account of this channel can carry the template (gateway.intake.asks.Bindings)."""
        return any(self._carries(c, template) for c in self._accounts.of(tenant, channel))

    def _decide_around(
        self, ask: Ask, ways: Mapping[Channel, Sequence[Way]], facts: Facts, moment: Moment, permit: timedelta
    ) -> Decision:
        """The gate's decision, or another channel's send where waiting for an account that is down means expiry.

        Where no other channel is open the reminder waits for the account, however little time is left.
        """
        first = decision = self.decide(ask, ways, facts, moment, permit)
        left = dict(ways)
        while decision.action is Action.SEND:
            again = self._down_until(_way(decision, left), moment)
            if again is None or not self._expires_by(again, ask, left, facts, permit):
                return decision
            left = {channel: found for channel, found in left.items() if channel is not decision.channel}
            decision = self.decide(ask, left, facts, moment, permit)
        return first

    def _down_until(self, way: Way, moment: Moment) -> Moment | None:
        """When a way whose account is down is asked for again; None where it is not down."""
        standing = self._standings().get(way.connected.pool)
        if standing is None or standing.back_at(moment.real) is None:
            return None
        return Moment(real=moment.real + LOOK_AGAIN, policy=moment.policy + LOOK_AGAIN)

    def _expires_by(
        self,
        again: Moment,
        ask: Ask,
        ways: Mapping[Channel, Sequence[Way]],
        facts: Facts,
        permit: timedelta,
    ) -> bool:
        """Whether it would be too late then, or closed until it is too late."""
        then = self.decide(ask, ways, facts, again, permit)
        return then.action is Action.SUPPRESS or then.ends is not None

    def decide(
        self,
        ask: Ask,
        ways: Mapping[Channel, Sequence[Way]],
        facts: Facts,
        moment: Moment,
        permit: timedelta,
    ) -> Decision:
        """The gate's decision; an account that is missing is not known, and so not now."""
        reachable = {
            channel: tuple(dict.fromkeys([way.reachable() for way in found]))
            for channel, found in ways.items()
        }
        decision = decide(
            snapshot(ask, facts, reachable, moment, self._stated),
            self._tuned_packs(facts.overrides.get(ask.tenant, {})),
            now=moment.policy,
            permit=permit,
            history=events(facts.history.get((ask.tenant, ask.person), ()), ask.person, moment.policy),
            reach={
                channel: max([w.connected.adapter.reach for w in found]) for channel, found in ways.items()
            },
            calendars=self._stated.calendars,
            alike=self._alike,
        )
        if decision.reason == "no_address" and self._unserved(ask, facts):
            until = min(moment.policy + LOOK_AGAIN, ask.expires_at)
            return replace(decision, action=Action.DEFER, reason="account_down", until=until, again=True)
        return decision

    def decide_elsewhere(
        self, ask: Ask, address: Reachable, facts: Facts, moment: Moment, permit: timedelta
    ) -> Decision:
        """The gate's decision on a contact that no account of ours would make."""
        channel = ask.channels[0]
        return decide(
            snapshot(ask, facts, {channel: (address,)}, moment, self._stated),
            self._tuned_packs(facts.overrides.get(ask.tenant, {})),
            now=moment.policy,
            permit=permit,
            history=events(facts.history.get((ask.tenant, ask.person), ()), ask.person, moment.policy),
            reach={},
            calendars=self._stated.calendars,
        )

    def _unserved(self, ask: Ask, facts: Facts) -> bool:
        living = facts.addresses.get((ask.tenant, ask.borrower), ())
        return any(address.channel in ask.channels for address in living)

    def _tuned_packs(self, caps: Mapping[str, int]) -> Packs:
        if not caps or not isinstance(self._packs, tuple):
            return self._packs
        key = tuple(sorted(caps.items()))
        if key not in self._tuned:
            self._tuned[key] = with_overrides(self._packs, caps)
        return self._tuned[key]

    def _ready(
        self,
        work: Work,
        decision: Decision,
        ways: Mapping[Channel, Sequence[Way]],
        facts: Facts,
        keys: Keys,
        moment: Moment,
        permit: timedelta,
    ) -> Ready:
        assert decision.channel is not None  # noqa: S101 (a send names its channel and its end)
        assert decision.deliver_by is not None  # noqa: S101
        way = _way(decision, ways)
        key = keys[work.tenant, work.borrower]
        debt = facts.debts[work.tenant, work.debt]
        template = self._catalog.get(work.template)
        assert template is not None  # noqa: S101 (else it is unusable)
        rendered = self._fitting(work, template, decision, way, facts, key)
        ref = ulid("at_", to_us(moment.policy), self._entropy(10))
        price = _price(way.connected, rendered)
        deliver_by = moment.real + (decision.deliver_by - moment.policy)
        return Ready(
            work=work,
            intent=Intent(
                work=work,
                ref=ref,
                channel=decision.channel,
                adapter=way.connected.account.adapter,
                account=way.connected.account.name,
                address=way.address.key,
                creditor=debt.creditor,
                segments=rendered.segments,
                price=price,
                language=rendered.language,
                text_hash=rendered.sha256,
                text_enc=key.seal(pack_text(rendered), table="attempt", column="text_enc", row=ref),
                borrower_revision=sum([b.revision for b in facts.siblings[work.tenant, work.person]]),
                debt_revision=debt.revision,
                deadline=moment.real + permit,
                start=Start(
                    ref=ref,
                    load=way.connected.load(
                        work.tenant, work.template, work.priority, segments=rendered.segments, cost=price
                    ),
                    template_version=template.version,
                    portfolios=_some(work.portfolio, debt.portfolio),
                    places=_some(
                        *work.places,
                        facts.borrowers[work.tenant, work.borrower].profile.get("residence"),
                        debt.governing_law,
                    ),
                    deliver_by=deliver_by,
                ),
                technology=way.connected.adapter.technology,
                flags=(*_flags(work), *sorted(decision.flags)),
            ),
            weight=way.connected.account.weight or 1,
            adapter=way.connected.adapter,
            ways=way.connected.ways,
            address=open_address(key, way.address.key, way.address.value_enc),
            rendered=rendered,
            at=moment.real,
            deliver_by=deliver_by,
            next_step=step_after(work.escalate, work.step),
        )

    def _fitting(
        self, work: Work, template: Template, decision: Decision, way: Way, facts: Facts, key: SubjectKey
    ) -> Rendered:
        """What will be said; BadInput when it cannot be made, or breaks rules on content of this decision's packs."""
        borrower = facts.borrowers[work.tenant, work.borrower]
        debt = facts.debts[work.tenant, work.debt]
        values = _values(work, borrower, debt, key, _today(decision.at, decision.zones))
        rendered = _render(template, way.connected, borrower, values)
        rules = concerning(
            decision.packs,
            _question(work, way, debt, facts),
            facts={**debt.policy_facts, "due_date": debt.due_date},
            zones=decision.zones.names,
            at=decision.at,
        )
        text = rendered_said(way.connected.channel, rendered, values, way.connected.account)
        broken = [breach for breach in breaches(rules, text) if breach.enforced]
        if broken:
            faults = [breach.fault(f"/content/{breach.rule.id}/{breach.block.name}") for breach in broken]
            raise BadInput(faults, code="rejected_content")
        return rendered

    def texts(self, work: Work, facts: Facts, keys: Keys, moment: Moment) -> dict[Channel, Rendered]:
        """What a reminder would say on each of its channels that can be gone, whatever is decided.

        A channel whose text cannot be made (a name or a fact is missing) is left out.
        """
        ask = self._ask(work, facts)
        if ask.template is None:
            return {}
        ways = self._ways(ask, facts, moment)
        key = keys[work.tenant, work.borrower]
        borrower = facts.borrowers[work.tenant, work.borrower]
        debt = facts.debts[work.tenant, work.debt]
        zones = zones_of(borrower, facts.addresses.get((work.tenant, work.borrower), ()))
        values = _values(work, borrower, debt, key, _today(moment.policy, zones))
        said: dict[Channel, Rendered] = {}
        for channel in [c for c in work.channels if c in ways]:
            connected = ways[channel][0].connected
            with suppress(BadInput):
                said[channel] = _render(ask.template, connected, borrower, values)
        return said


def _render(template: Template, connected: Connected, borrower: BorrowerRow, values: Values) -> Rendered:
    return render(
        template,
        connected.channel,
        borrower.profile.get("language") or "",
        values,
        account=connected.account,
        takes_free_text=connected.adapter.takes_free_text,
    )


def _question(work: Work, way: Way, debt: DebtRow, facts: Facts) -> Question:
    """What rules on content ask of a reminder that goes this way."""
    assigned = facts.assigned(work.tenant, debt.portfolio)
    return Question(
        channel=way.connected.channel.value,
        purpose=work.purpose,
        address_kind=way.address.kind,
        recipient_role=work.recipient_role,
        flags=frozenset(_flags(work)),
        technology=way.connected.adapter.technology,
        adapter=way.connected.account.adapter,
        actor_role=work.actor_role,
        institution=assigned.institution if assigned else None,
        product=debt.product,
    )


def _values(work: Work, borrower: BorrowerRow, debt: DebtRow, key: SubjectKey, today: date) -> Values:
    """What the text is filled in with on that date."""
    pii = orjson.loads(key.open(borrower.pii_enc, table="borrower", column="pii_enc", row=borrower.id))
    facts = orjson.loads(key.open(work.facts_enc, table="reminder", column="facts_enc", row=work.id))
    return Values(
        name=Pii(pii.get("name") or ""),
        creditor=debt.creditor,
        amount=debt.balance,
        due_date=debt.due_date,
        dpd=max(0, (today - debt.due_date).days),
        facts=facts,
    )


def _today(at: datetime, zones: Zones) -> date:
    """The latest local date in the borrower's zones."""
    names = zones.names or ("UTC",)
    return date.fromordinal(max(zone(name).day(int(at.timestamp())) for name in names))


def _intended(ready: Ready, moment: Moment) -> Past:
    """An intent as those after it see it."""
    intent = ready.intent
    return Past(
        at=moment.policy,
        channel=intent.channel.value,
        state="intent",
        final_at=None,
        debt=ready.work.debt,
        creditor=intent.creditor,
        address=intent.address,
        recipient_role=ready.work.recipient_role,
        flags=intent.flags,
        actor=ready.work.actor_id,
        technology=intent.technology,
        adapter=intent.adapter,
    )


def _way(decision: Decision, ways: Mapping[Channel, Sequence[Way]]) -> Way:
    """The way that a send was decided to go."""
    assert decision.channel is not None  # noqa: S101 (a send names its channel)
    return next(
        way
        for way in ways[decision.channel]
        if (way.address.key, way.connected.account.adapter) == (decision.address_key, decision.adapter)
    )


def _channels(work: Work) -> tuple[Channel, ...]:
    """Those it may go on now: its own, later those of its step alone; after the last step there are none."""
    if work.step == 0:
        return work.channels
    return tuple(Channel(step["channel"]) for step in work.escalate[work.step - 1 : work.step])


def _some(*named: str | None) -> frozenset[str]:
    return frozenset(name for name in named if name)


def _flags(work: Work) -> tuple[str, ...]:
    """A confirmation of an opt-out carries its name, so that there is one."""
    confirms = work.purpose == Purpose.OPTOUT_CONFIRMATION
    return (Purpose.OPTOUT_CONFIRMATION.value,) if confirms else ()


def _price(connected: Connected, rendered: Rendered) -> Money | None:
    price = connected.account.price
    if price is None:
        return None
    parts = rendered.segments if connected.channel is Channel.SMS else 1
    return Money(amount=price.amount * parts, currency=price.currency)


class Grounds:
    """Grounds of decisions: those of people who are alike are the same objects, and written once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], tuple[tuple[object, ...], Ground]] = {}

    def of(self, decision: Decision) -> Ground:
        """A decision's."""
        parts = decision.findings, decision.packs, decision.zones
        key = tuple(map(id, parts))
        known = self._known.get(key)
        if known is not None:
            return known[1]
        if len(self._known) >= MOST_GROUNDS:
            self._known.clear()
        said = canonical(grounds_json(decision))
        ground = Ground(sha256=sha256(said).hexdigest(), said=said.decode())
        self._known[key] = parts, ground  # while they are held here, nothing else has their ids
        return ground


def _told(fault: Fault) -> dict[str, Any]:
    """What is wrong with a text that may not go."""
    return {"at": fault.at, "code": fault.code, "message": fault.message}


def _said(decision: Decision, ground: Ground, more: Mapping[str, Any]) -> bytes:
    """A decision as it is kept, in canonical JSON."""
    return canonical({**outline_json(decision), "ground": ground.sha256, **more})


def _verdict(
    work: Work,
    decision: Decision,
    said: bytes,
    ground: Ground,
    ready: Ready | None,
    moment: Moment,
    contacted: str | None,
) -> Verdict:
    """What becomes of the reminder. A step of an escalation that may not go leaves it as its last contact stands."""
    decided = said.decode()
    if ready is not None:
        return Verdict(
            work=work,
            state="sending",
            reason=None,
            by=None,
            next_at=None,
            decision=decided,
            ground=ground,
            channel=decision.channel,
            intent=ready.intent,
        )
    if decision.action is Action.DEFER:
        until = decision.until or moment.policy + LOOK_AGAIN
        return Verdict(
            work=work,
            state="deferred",
            reason=decision.reason,
            by=None,
            next_at=until,
            decision=decided,
            ground=ground,
            channel=decision.channel,
        )
    state = "expired" if decision.reason == "expired" else "suppressed"
    if contacted is not None:
        state = outcomes.reminder_state(contacted) or state
    return Verdict(
        work=work,
        state=state,
        reason=decision.reason,
        by=None,
        next_at=None,
        decision=decided,
        ground=ground,
    )


def _read(decision: Decision, caps: Mapping[str, int], permit: timedelta) -> dict[str, Pii[str]]:
    """What a decision read, for its record: enough to decide it again."""
    if decision.asked is None:
        return {}
    inputs = {
        **written(decision.asked),
        "caps": dict(caps),
        "permit_s": int(permit.total_seconds()),
        "reach_s": {channel.value: int(span.total_seconds()) for channel, span in decision.reach.items()},
    }
    return {"inputs": Pii(orjson.dumps(inputs).decode())}


def _decided(
    work: Work,
    verdict: Verdict,
    decision: Decision,
    said: bytes,
    read: Mapping[str, Pii[str]],
    ready: Ready | None,
    moment: Moment,
    where: Mapping[str, Any],
) -> Entry:
    """The record of a decision: every finding, and for a send the intent.

    `where` it stands: whose it is, its place among those decided together, the packs in use.
    """
    body: dict[str, Any] = {"decision": Fragment(said), **where}
    clear = dict(read)
    ids = {"debt": work.debt}
    if ready is not None:
        intent = ready.intent
        body |= {
            "recipient_role": work.recipient_role,
            "technology": intent.technology,
            "flags": list(intent.flags),
            "adapter": intent.adapter,
            "account": intent.account,
            "template": work.template,
            "template_version": intent.start.template_version,
            "language": intent.language,
            "segments": intent.segments,
            "price": {"amount": str(intent.price.amount), "currency": intent.price.currency}
            if intent.price
            else None,
        }
        ids |= {"creditor": intent.creditor, "actor": work.actor_id}
        clear |= {
            "address": ready.address,
            "address_key": Pii(intent.address),
            "text_sha256": Pii(intent.text_hash),
        }
    return Entry(
        tenant=work.tenant,
        kind="expired" if verdict.state == "expired" else "decision",
        at=moment.policy,
        reminder=work.id,
        attempt=ready.intent.ref if ready else None,
        borrower=work.borrower,
        channel=decision.channel.value if decision.channel else None,
        state=verdict.state,
        reason=verdict.reason,
        ids=ids,
        body=body,
        clear=clear,
    )


def _refused(work: Work, verdict: Verdict, said: bytes, load: Load, moment: Moment) -> Entry:
    """The record that a quota, a pause or a stop holds a reminder that may go."""
    return Entry(
        tenant=work.tenant,
        kind="decision",
        at=moment.policy,
        reminder=work.id,
        borrower=work.borrower,
        channel=load.channel,
        state=verdict.state,
        reason=verdict.reason,
        ids={"debt": work.debt},
        body={"decision": Fragment(said), "by": verdict.by, "account": load.account},
    )


def _until_free(decision: Decision, history: Sequence[Past]) -> Decision:
    """A deferral is looked at again when the first place that was only reserved is free."""
    frees = [past.final_at for past in history if past.reserved and past.final_at is not None]
    if decision.action is not Action.DEFER or decision.until is None or not frees:
        return decision
    first = min(frees)
    return replace(decision, until=first, again=True, ends=None) if first < decision.until else decision


def _unsaid(work: Work, decision: Decision, note: str) -> Decision:
    """It may go, and this process cannot say it: not now."""
    until = min(decision.at + LOOK_AGAIN, work.expires_at)
    return replace(
        decision,
        action=Action.DEFER,
        reason="template_unusable",
        note=note,
        until=until,
        again=True,
        deliver_by=None,
    )


def _unknown(work: Work, moment: Moment) -> Decision:
    """A decision that no rule was asked for: not known is not now, and in the end is never."""
    if moment.policy >= work.expires_at:
        return Decision(
            action=Action.SUPPRESS, reason="expired", at=moment.policy, zones=Zones(names=(), evidence=())
        )
    return Decision(
        action=Action.DEFER,
        reason="lookup_failed",
        at=moment.policy,
        until=min(moment.policy + LOOK_AGAIN, work.expires_at),
        again=True,
        zones=Zones(names=(), evidence=()),
    )


def _unfit(work: Work, faults: Sequence[Fault], moment: Moment) -> Entry:
    """The record of a text that could not be made or may not go: codes and places, no values."""
    return Entry(
        tenant=work.tenant,
        kind="attempt",
        at=moment.policy,
        reminder=work.id,
        borrower=work.borrower,
        state="suppressed",
        reason="rejected_content",
        body={"faults": [{"at": f.at, "code": f.code} for f in faults]},
    )
