"""A schedule of deaths: workers and an API that are told where to die, each replaced at once, while work comes in."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
from checker import Promised, at_rest, check
from fleet import Fleet, now, run, until
from killing_worker import ACCEPTING, ENDING, HOT, POINTS, SLOW, STALLED
from makers import borrower, phone, reminder, rows
from sendrig import TENANT, done

from gateway.errors import Unavailable
from gateway.store.keys import Role

PROGRAM = Path(__file__).with_name("killing_worker.py")
PATIENCE_S = {HOT: 25, SLOW: 40, ENDING: 30, STALLED: 30, ACCEPTING: 20}
"""After so long whoever has not come to its point is ended wherever it is."""
AT_WORK_S = 4.0
"""After so long a worker is in the middle of it: told to end, or stopped for a while."""
STALL_S = 0.45
"""Longer than a slot is good for."""
POST_OF, BACKLOG = 25, 250
"""Reminders of one request, and how many may wait before the caller does, too."""
CLEARED_S = 300.0
ASKED_AGAIN_S, SETTLED_S = (120, 480), 3.0
"""A question that was cut is asked again: ten minutes in all, which pass at once; an answer takes so long."""


def address_of(number):
    """The channel and the address of a reminder's own recipient: four providers in turn."""
    match number % 10:
        case 0 | 1 | 2 | 3:
            return "sms", phone(number)
        case 4 | 5 | 6:
            return "sms", f"+659{number:06d}0"
        case 7 | 8:
            return "email", f"b{number}@example.com"
        case _:
            return "wechat", f"openid-of-nobody-{number:09d}xx"


def work(number):
    """What comes in under one number: reminders by key, with what they promise.

    One of fifty is a person with five reminders, who may get three a day; one a person whose night it is.
    """
    channel, to = address_of(number)
    person = borrower(number, addresses=[{"channel": channel, "value": to, "kind": "personal"}])
    quiet, many = number % 50 == 13, number % 50 == 21
    if quiet:
        person["time_zones"] = [{"zone": "America/New_York", "source": "declared"}]
    return [
        (
            reminder(
                number,
                idempotency_key=f"k-{number}-{part}",
                borrower=person,
                debt={**reminder(number)["debt"], "id": f"L-{number}-{part}"},
                channels=[channel],
            ),
            Promised(to=to, quiet=quiet),
        )
        for part in range(5 if many else 1)
    ]


@dataclass
class Place:
    """Where one process after the other lives and dies."""

    role: str
    points: list
    process: subprocess.Popen | None = None
    point: str = ""
    since: float = 0.0
    told: float = 0.0
    bag: deque = field(default_factory=deque)


@dataclass
class Deaths:
    """The schedule over one fleet."""

    fleet: Fleet
    seed: int
    places: list = field(default_factory=list)
    accepted: dict = field(default_factory=dict)
    made: int = 0
    over: bool = False
    reached: int = 0
    waiting: int = 0
    by_http: int = 0
    left: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.random = Random(self.seed)
        self.said = self.fleet.logs / "kills"
        self.fleet.environ["KILLS"] = str(self.said)
        kinds = {kind: [p for p, (k, *_) in POINTS.items() if k == kind] for kind in PATIENCE_S}
        self.places = [
            Place("worker", kinds[HOT]),
            Place("worker", kinds[HOT] + kinds[ENDING] + kinds[STALLED]),
            Place("worker", kinds[SLOW]),
            Place("api", kinds[ACCEPTING]),
        ]

    def deaths(self):
        """What those who died said right before it."""
        return [json.loads(line) for line in self.said.read_text().splitlines()] if self.said.exists() else []

    async def run(self, kills, every=()):
        """So many deaths; `every` gives coroutines that are begun after each so many of them."""
        feeding = asyncio.create_task(self._feed())
        ledger = asyncio.create_task(self._watch())
        done, others = 0, list(every)
        try:
            while (count := len(self.deaths())) < kills:
                for place in self.places:
                    self._see_to(place)
                for each, act in others:
                    if count // each > done // each:
                        await act()
                done = count
                for task in (feeding, ledger):
                    if task.done():
                        task.result()
                await asyncio.sleep(0.05)
            self.over = True
            self._spare()
            await feeding
        finally:
            ledger.cancel()
            feeding.cancel()
            await asyncio.gather(ledger, feeding, return_exceptions=True)

    async def through(self, act):
        """Nobody dies; work comes in for as long as `act` lasts, and a while longer."""
        feeding, ledger = asyncio.create_task(self._feed()), asyncio.create_task(self._watch())
        try:
            self._spare()
            await until(lambda: asyncio.sleep(0.1, self.reached > POST_OF))
            await act()
            for task in (feeding, ledger):
                if task.done():
                    task.result()
            self.over = True
            await feeding
        finally:
            for task in (feeding, ledger):
                task.cancel()
            await asyncio.gather(feeding, ledger, return_exceptions=True)

    def _see_to(self, place):
        """Replace who is gone; end who has not come to its point."""
        if place.process is None or place.process.poll() is not None:
            if place.process is not None:
                self.left[place.process.returncode] += 1
            self._replace(place)
            return
        age = time.monotonic() - place.since
        kind = POINTS[place.point][0]
        if age > PATIENCE_S[kind]:
            place.process.send_signal(signal.SIGUSR1)
        elif kind == ENDING and age > AT_WORK_S and not place.told:
            place.told = age
            place.process.send_signal(signal.SIGTERM)
        elif kind == STALLED and age > max(AT_WORK_S, place.told + 3 * STALL_S):
            place.told = age
            process = place.process
            process.send_signal(signal.SIGSTOP)
            asyncio.get_running_loop().call_later(STALL_S, process.send_signal, signal.SIGCONT)

    def _replace(self, place):
        if not place.bag:
            place.bag.extend(self.random.sample(place.points, len(place.points)))
        place.point = place.bag.popleft()
        place.process = self.start(place.role, place.point, self.random.randint(1, POINTS[place.point][1]))
        place.since, place.told = time.monotonic(), 0.0

    def start(self, role, point="none", nth=1):
        """One more process; without a point it does not end itself."""
        words = [sys.executable, PROGRAM, role, point, nth, self.random.randrange(1 << 30)]
        if role == "api":
            words += ["--listen", self.fleet.rig.gateway.place.public_url.removeprefix("http://")]
        with (self.fleet.logs / f"{role}.log").open("a") as log:
            return run([*map(str, words)], log, self.fleet.environ)

    def _spare(self):
        """From now on nobody dies: whoever is under way is ended once more, and plain ones take their places."""
        for place in self.places:
            if place.process is not None and place.process.poll() is None:
                place.process.send_signal(signal.SIGCONT)
                place.process.send_signal(signal.SIGUSR1)
                place.process.wait(10)
            place.process = self.start(place.role)
            self.fleet.workers.append(place.process)

    def end(self):
        """Let nobody live."""
        for place in self.places:
            if place.process is not None and place.process.poll() is None:
                place.process.kill()
                place.process.wait(10)

    # Work.

    async def _feed(self):
        """Hand in what there is to send, each until it is answered, as a service does."""
        key = await self.fleet.rig.key(Role.SERVICE)
        headers = {"Authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=5)) as http:
            while not self.over:
                if self.waiting > BACKLOG:
                    await asyncio.sleep(0.1)
                    continue
                numbers = range(self.made, self.made + POST_OF)
                self.made += POST_OF
                self.waiting += POST_OF
                await self._hand_in(http, [one for number in numbers for one in work(number)])

    async def _hand_in(self, http, wanted):
        """Over HTTP; where nobody answers, at the gateway's other door, by the same keys."""
        raws = [raw for raw, _ in wanted]
        while True:
            names = await self._over_http(http, raws)
            if names is None:
                with suppress(Unavailable):
                    names = [
                        answer["id"] for answer in done(await self.fleet.rig.intake.reminders(TENANT, raws))
                    ]
            if names is not None:
                break
            await asyncio.sleep(0.2)
        self.accepted |= dict(zip(names, (promised for _, promised in wanted), strict=True))

    async def _over_http(self, http, raws):
        """Their ids, or None where there was no answer."""
        url = f"{self.fleet.rig.gateway.place.public_url}/v1/reminders/batch"
        try:
            async with http.post(url, json={"items": raws}) as answer:
                if answer.status >= 300:
                    assert answer.status in (429, 503), await answer.text()
                    return None
                results = (await answer.json())["results"]
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        assert {result["status"] for result in results} == {202}, results
        self.by_http += len(results)
        return [result["body"]["id"] for result in results]

    async def _watch(self):
        """How far they are."""
        while True:
            self.reached = len(self.fleet.rig.reached())
            with suppress(Unavailable):
                found = await rows(self.fleet.rig.database, "reminder", "state IN ('waiting', 'sending')")
                self.waiting = len(found)
            await asyncio.sleep(1)

    # What came of it.

    async def settled(self, patience=CLEARED_S):
        """Wait until nothing is under way, and hold it all together; what could not be asked is asked again."""
        database = self.fleet.rig.database
        for wait in (0, *ASKED_AGAIN_S):
            await self.fleet.rig.aged("attempt.settle_at", seconds=wait)
            await asyncio.sleep(SETTLED_S)
            await until(self._at_rest, patience)
            attempts = [row for row in await rows(database, "attempt") if row.origin == "gateway"]
            reminders = await rows(database, "reminder")
            verdict = check(self.accepted, self.fleet.rig.reached(), reminders, attempts)
            if not verdict.unsettled and verdict.settles():
                break
        return verdict

    async def marked_s(self):
        """Seconds from each death to the record that says of one of its calls that nobody knows, sorted."""
        return await self.fleet.marked_s({death["pid"]: death["at"] for death in self.deaths()})

    async def _at_rest(self):
        await asyncio.sleep(1)
        database = self.fleet.rig.database
        (clock,) = await rows(database, "clock")
        return at_rest(
            await rows(database, "reminder"),
            await rows(database, "attempt"),
            policy=now() + clock.offset_us,
            real=now(),
        )


def nice(process):
    """How a process ended, in words."""
    return signal.Signals(-process).name if process < 0 else str(process)


SEED = int(os.environ.get("FAULTS_SEED", "20261129"))
"""Draws every schedule."""
