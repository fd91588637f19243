"""Providers in memory, with a ledger of their own, behind the gateway's port for adapters.

`twilio_sms` can be asked what became of a message, `wechat` drops a second request of the same ref, `smtp` knows
neither. What a request comes to is drawn when it is made: it may be taken, refused, lost on its way, or taken without
a word; its reply may be late. Once it has left, no end of its sender keeps it from arriving.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from sim_loop import PROCESS

from gateway.domain import Channel, Handed, HandOver, NotShown, Outcome, Receipt

CHANNELS = {"twilio_sms": Channel.SMS, "wechat": Channel.WECHAT, "smtp": Channel.EMAIL}
CALL_S = 2.0
FINAL = frozenset({Outcome.DELIVERED, Outcome.FAILED})
REFUSALS = (
    Handed(ending=HandOver.NOT_SENT, code="refused"),
    Handed(ending=HandOver.RETRY_AFTER, code="too_fast", retry_after=timedelta(seconds=1), reach="rate"),
    Handed(ending=HandOver.CONTENT, code="content"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: when `send` was begun and by whom, and how it is to go."""

    at: float
    process: object
    ref: str
    to: str
    fate: str


class Ledger:
    """What providers saw. `taken`: (seconds, address, ref) of each message that went out to somebody."""

    def __init__(self):
        self.calls = []
        self.taken = []
        self.dropped = 0
        """Second requests that a provider dropped by its own key."""


class Provider:
    """gateway.ports.Adapter. `world` draws."""

    takes_free_text: ClassVar[bool] = True
    technology: ClassVar[str | None] = None
    final: ClassVar[frozenset[Outcome]] = FINAL
    final_after: ClassVar[timedelta] = timedelta(hours=72)
    call_timeout: ClassVar[timedelta] = timedelta(seconds=CALL_S)
    at_once: ClassVar[int] = 64
    reach: ClassVar[timedelta] = timedelta(minutes=1)
    channel: ClassVar[Channel]
    own_key: ClassVar[bool] = False

    world: ClassVar[object] = None

    def __init__(self, account, tools):
        self.account = account

    async def send(self, message):
        world, loop = self.world, asyncio.get_running_loop()
        fate, refusal, way, back = world.fate()
        call = Call(
            at=loop.time(),
            process=PROCESS.get(),
            ref=message.ref,
            to=message.address.reveal("to send"),
            fate=fate,
        )
        world.ledger.calls.append(call)
        world.say("call", message.ref, fate)
        await asyncio.sleep(way)  # to connect: whoever dies here has sent nothing
        reply = loop.create_future()
        if fate != "lost":
            handed = refusal if fate == "refused" else None
            loop.call_later(way, self._arrives, call, handed, reply, back, context=Context())
        return (
            await reply
        )  # for ever where it is swallowed: shipped adapters give up by themselves, this one does not

    def _arrives(self, call, refusal, reply, back):
        handed = refusal or self._take(call)
        if call.fate != "swallowed":
            loop = reply.get_loop()
            loop.call_later(back, _answer, reply, handed, context=Context())

    def _take(self, call):
        ledger, now = self.world.ledger, self.world.loop.time()
        if self.own_key and any(ref == call.ref for _, _, ref in ledger.taken):
            ledger.dropped += 1
        else:
            ledger.taken.append((now, call.to, call.ref))
            self.world.taken(self, call)
        self.world.say("taken", call.ref)
        return Handed(ending=HandOver.ACCEPTED, provider_id=f"p-{call.ref}")

    async def aclose(self):
        """Nothing is open."""


def _answer(reply, handed):
    if not reply.done():
        reply.set_result(handed)


class Twilio(Provider):
    channel = Channel.SMS

    async def look_up(self, ref, address, started_at):
        await asyncio.sleep(0.1)
        if any(seen == ref for _, _, seen in self.world.ledger.taken):
            return Receipt(outcome=Outcome.ACCEPTED, ref=ref, provider_id=f"p-{ref}")
        return NotShown()


class Wechat(Provider):
    channel = Channel.WECHAT
    again_within: ClassVar[timedelta] = timedelta(minutes=8)
    own_key = True


class Smtp(Provider):
    channel = Channel.EMAIL


ADAPTERS = {"twilio_sms": Twilio, "wechat": Wechat, "smtp": Smtp}
