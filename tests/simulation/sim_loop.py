"""An event loop of which a seed draws every step: no clock but its own, no selector, no thread.

Whatever is ready is run in drawn order, one callback at a time; when nothing is ready, time jumps to the next timer.
Each callback belongs to a simulated process, which may be killed (it never runs again) or stopped for a while.
"""

from __future__ import annotations

import asyncio
import heapq
from contextvars import ContextVar

TICK = 5e-6
"""Seconds that a callback takes: whoever spins does not hold time still."""
MOST_STEPS = 20_000
"""Callbacks in one run at most: more is a livelock."""

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class StuckError(AssertionError):
    """Nothing will ever happen again, or for ever the same."""


class Process:
    """A simulated process: what of it is alive. `lost`: what it would still run, if it could."""

    def __init__(self, name):
        self.name = name
        self.dead = self.stopped = False
        self.held = []
        self.stopped_at = []
        """Pairs of when it was stopped and went on."""

    def stood_still(self, since, until):
        """Whether it was stopped at any time in between."""
        return any(began <= until and ended >= since for began, ended in self.stopped_at)


class Loop(asyncio.BaseEventLoop):
    """`random` draws; time begins at 0."""

    def __init__(self, random):
        super().__init__()
        self._random = random.random
        self._now = 0.0
        self._ready = []
        self._tasks = []
        self.steps = 0
        self.broken = []
        """Exceptions that nobody took."""
        self.set_task_factory(self._task)
        self.set_exception_handler(lambda _loop, context: self.broken.append(context))

    def _task(self, loop, coro, context=None):
        """Tasks of the killed are kept, so that none is closed in the midst of a run."""
        task = asyncio.Task(coro, loop=loop, context=context)
        self._tasks.append(task)
        return task

    def time(self):
        return self._now

    def _write_to_self(self):
        """Nothing sleeps."""

    def _process_events(self, event_list):
        """There are none."""

    def _run_once(self):
        """One callback."""
        self._due()
        while self._ready:
            ready = self._ready
            place = int(self._random() * len(ready))
            handle = ready[place]
            ready[place] = ready[-1]
            ready.pop()
            if not handle._cancelled and self._may_run(handle):
                self.steps += 1
                if self.steps > MOST_STEPS:
                    raise StuckError(f"no end after {MOST_STEPS} callbacks, at {self._now:.3f} s")
                self._now += TICK
                handle._run()
                return
        if self._stopping:
            return
        self._jump()

    def _may_run(self, handle):
        process = handle._context.get(PROCESS)
        if process is None:
            return True
        if process.stopped:
            process.held.append(handle)
        return not process.dead and not process.stopped

    def _due(self):
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._now):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)

    def _jump(self):
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._scheduled:
            raise StuckError(f"everybody waits for nothing, at {self._now:.3f} s")
        self._now = max(self._now, self._scheduled[0]._when)

    def _timer_handle_cancelled(self, handle):
        """They are dropped when their time comes."""

    def go_on(self, process):
        """Let a stopped process run again."""
        process.stopped = False
        process.stopped_at[-1] = (process.stopped_at[-1][0], self._now)
        self._ready.extend(process.held)
        process.held.clear()

    def stop_process(self, process):
        """Let a process stand still, until `go_on`."""
        process.stopped = True
        process.stopped_at.append((self._now, float("inf")))

    def run(self, main):
        """Run to its end, then let go of all that is left, the killed too."""
        try:
            return self.run_until_complete(main)
        finally:
            self.broken.clear()
            self._let_go()
            asyncio.set_event_loop(None)
            self.close()

    def _let_go(self):
        for task in self._tasks:
            task._log_destroy_pending = False
        self._ready.clear()
        self._scheduled.clear()
        for task in self._tasks:
            if not task.done():
                _close(task.get_coro())
        self._ready.clear()


def _close(coro):
    """End a coroutine where it stands; what it still wants to wait for it does not get."""
    for _ in range(100):
        try:
            coro.throw(asyncio.CancelledError)
        except BaseException:  # noqa: BLE001 (whatever it says at its end)
            return
