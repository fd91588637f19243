"""The send protocol as a model: what workers, sweep, reconcile, provider and network may do next in a state.

A state is `(left, stop, workers, reminders)`:

    left        faults and events that may still come, four bits for each of KINDS
    stop        1 once a payment or a stop is committed
    workers     for each `(run, task, ...)`: whether it runs, and what it is doing about each reminder
    reminders   for each a Reminder

What only costs time is no step: wake-ups may come at any moment, twice or never, and a permit may be over at any
moment. What takes long is kept in order by what it outlasts: a quarantine outlasts every call of a process that
runs, and a provider knows its key for longer than it is used.
"""

from typing import NamedTuple

WAITING, CANCELLED, OVER, CANCELLED_INTENT, INTENT, CALLING, UNKNOWN, ASKABLE, PARKED, ACCEPTED = range(10)
"""A reminder and its latest attempt in one word: each transaction of gateway.store.dispatch changes both together."""
COUNTED = CANCELLED_INTENT
"""From this one on the attempt counts in caps: it is neither void nor refused."""
ENDS = frozenset({CANCELLED, OVER, PARKED, ACCEPTED})
CALLED = frozenset({UNKNOWN, ASKABLE, PARKED, ACCEPTED})
TAKES_AN_ENDING = frozenset({CALLING, UNKNOWN, ASKABLE, PARKED})
GIVEN_UP_FROM = TAKES_AN_ENDING | {ACCEPTED}
VOIDED = {INTENT: WAITING, CALLING: WAITING, CANCELLED_INTENT: CANCELLED}

RUNS, THAWED, FROZEN = range(3)
"""A worker that is frozen was judged dead; one that thawed stands as dead until its heart beats again."""

IDLE, HOLDS, GRANTED, LATE, CHECKED, OUT, YES, NO, SILENCE, TAKES_BACK, FORGOT, LOOKED, COUNTS = range(13)
STALE = 16
"""Added to a task whose attempt is void, or no longer its reminder's latest."""

NEVER, CLEARED, HEARD, NOTHING, ASKED = range(5)
"""Asking again: not yet; the guard let it through; the provider said yes; it said nothing; asked and written."""

KINDS = ("kill", "freeze", "request", "reply", "answer", "given_up", "cancel", "stop")
SHIFT = {kind: 4 * place for place, kind in enumerate(KINDS)}
LOST = ", its answer is lost"
FAULTS = frozenset(
    {"killed", "frozen until judged dead", "thaws", "the request is lost", "the reply is lost"}
)
"""Labels of steps that nobody may count on. So are all that end in LOST."""


class Reminder(NamedTuple):
    """One reminder. `reached` counts for one step of its escalation: 0, 1, or 2 for more than once."""

    row: int = WAITING
    net: int = 0
    """1 while the request of its latest attempt is under way."""
    held: int = 0
    """1 once the provider took it."""
    stray: int = 0
    """Requests under way of attempts that are void."""
    reached: int = 0
    ask: int = NEVER
    step: int = 0
    due: int = 0
    """By how much the next wake-up raises the step; 0: none is due."""
    taken_back: int = 0
    """1 once its next step was cancelled: whatever ends late, nothing follows."""


class Budget(NamedTuple):
    """What an exploration covers: reminders of one person, steps of an escalation, how many of each fault and event.

    `own_key`: the provider drops a second request of the same ref. `forgets`: a process may freeze in the midst of
    a call for longer than the provider knows that key.
    """

    reminders: int = 1
    steps: int = 1
    own_key: bool = False
    forgets: bool = False
    kill: int = 0
    """Processes killed. Each is started anew at once, and its attempts belong to nobody who lives."""
    freeze: int = 0
    """Processes frozen, or cut off from the store, until they are judged dead: for seconds or for days."""
    request: int = 0
    """Requests lost on their way to the provider."""
    reply: int = 0
    """Replies lost on their way back, or too late."""
    answer: int = 0
    """Commits whose answer is lost: made or not, the worker does not learn which."""
    given_up: int = 0
    """Messages that the provider took and gives up, which its receipt says."""
    cancel: int = 0
    stop: int = 0


class Protocol:
    """All steps from a state, for one person and two workers. `wrong`: a mistake to make (test_protocol.py)."""

    def __init__(self, budget, wrong=""):
        self.budget = budget
        self.wrong = wrong
        self.cap = budget.steps
        """Contacts that the person's cap allows: one, and one more for each further step."""

    def start(self):
        """The reminders wait, and nothing has happened."""
        left = sum(getattr(self.budget, kind) << SHIFT[kind] for kind in KINDS)
        many = self.budget.reminders
        return left, 0, ((RUNS,) + (IDLE,) * many,) * 2, (Reminder(),) * many

    def steps(self, state):
        """(label, next state); in place of a state, the promise that the step breaks."""
        out = []
        for w, worker in enumerate(state[2]):
            self._fail(out, state, w)
            if worker[0] != FROZEN:
                for r in range(self.budget.reminders):
                    self._work(out, state, w, r)
        for r in range(self.budget.reminders):
            self._provide(out, state, r)
            self._sweep(out, state, r)
            self._settle(out, state, r)
            self._cancel(out, state, r)
        if _left(state, "stop"):
            out.append(("a stop is committed", _spent((state[0], 1, *state[2:]), "stop")))
        return out

    # What a worker does: T1, go, check, call, T2 (gateway/dispatch.py, starts.py, endings.py).

    def _work(self, out, state, w, r):
        task = state[2][w][1 + r] & ~STALE
        if task == IDLE:
            self._decide(out, state, w, r)
        elif task == HOLDS:
            self._go(out, state, w, r)
            self._take_back(out, state, w, r, "given up: no start in time")
        elif task in (GRANTED, LATE):
            self._begin(out, state, w, r)
        elif task == CHECKED:
            self._call(out, state, w, r)
        elif task == OUT:
            self._time_out(out, state, w, r)
        elif task in (YES, NO, SILENCE):
            self._write(out, state, w, r)
        elif task == TAKES_BACK:
            self._take_back(out, state, w, r, "withdrawn")
        elif task in (LOOKED, COUNTS):
            self._act_on_what_was_read(out, state, w, r)

    def _decide(self, out, state, w, r):
        """T1: under the person's lock the reminder is claimed, caps are counted, an intent is written."""
        reminder = state[3][r]
        if reminder.row != WAITING and not (reminder.due and reminder.row in CALLED):
            return
        if state[1]:
            out.append(
                ("T1: stopped", _set(state, r, row=OVER if reminder.row == WAITING else reminder.row, due=0))
            )
            return
        if self.wrong == "status check, call, update":
            out.append(("reads that it waits", _task(state, w, r, CHECKED | STALE)))
            return
        if not self._has_room(state):
            if all(other.row in ENDS for place, other in enumerate(state[3]) if place != r):
                over = _set(state, r, row=OVER if reminder.row == WAITING else reminder.row, due=0)
                out.append(("T1: the cap is full until it expires", over))
            return
        if self.wrong == "the cap is counted without the person's lock":
            out.append(("T1 counts", _task(state, w, r, COUNTS)))
            return
        self._intend(out, state, w, r)

    def _intend(self, out, state, w, r):
        """An intent for the reminder, or for its escalation's next step."""
        reminder = state[3][r]
        step = reminder.step + reminder.due
        if reminder.taken_back:
            out.append(("T1", "a step is taken after its cancel"))
            return
        if step == self.budget.steps:
            out.append(("T1", "a step of its escalation is taken twice"))
            return
        if reminder.due and reminder.reached and (reminder.net or self._may_call(state, r)):
            out.append(("T1", "a step is over, and could still reach somebody twice"))
            return
        before = _step_over(state, r) if reminder.due else state
        intent = _set(before, r, row=INTENT, step=step)
        out.append(("T1", _task(intent, w, r, HOLDS)))
        if _left(state, "answer"):
            out.append(("T1" + LOST, _spent(_task(intent, w, r, FORGOT), "answer")))

    def _may_call(self, state, r):
        return any(worker[1 + r] in (GRANTED, CHECKED) for worker in state[2])

    def _has_room(self, state):
        """Whether the cap has room for one more contact; what is unknown counts."""
        free = (UNKNOWN, ASKABLE, PARKED) if self.wrong == "an unknown is not counted" else ()
        used = sum(other.step + (other.row >= COUNTED and other.row not in free) for other in state[3])
        return used < self.cap

    def _go(self, out, state, w, r):
        """The guard: cancel, stop, fence and owner once more, in the transaction that makes it `calling`."""
        task, row = state[2][w][1 + r], state[3][r].row
        granted = not state[1] and (self.wrong == "go without a fence" or (task == HOLDS and row == INTENT))
        if not granted:
            self._take_back(out, state, w, r, "go refused")
            return
        if self.wrong == "go reads pauses without the lock":
            out.append(("go reads the pauses", _task(state, w, r, LOOKED)))
            return
        went = state if task & STALE else _set(state, r, row=CALLING)
        out.append(("go", _task(went, w, r, task & STALE | GRANTED)))
        if _left(state, "answer"):
            after = GRANTED if self.wrong == "a go whose answer is lost counts as given" else TAKES_BACK
            for made in (state, went):
                out.append(("go" + LOST, _spent(_task(made, w, r, task & STALE | after), "answer")))

    def _act_on_what_was_read(self, out, state, w, r):
        """The second half of a T1 or a go that is wrongly made of two transactions."""
        task, row = state[2][w][1 + r], state[3][r].row
        if task == COUNTS and row == WAITING:
            out.append(("T1 writes by what it counted", _set(_task(state, w, r, HOLDS), r, row=INTENT)))
        elif task == LOOKED and row == INTENT and state[1]:
            out.append(("go by what was read", "a call was given its go after a stop"))
        elif task == LOOKED and row == INTENT:
            out.append(("go by what was read", _set(_task(state, w, r, GRANTED), r, row=CALLING)))
        else:
            out.append(("finds it taken", _task(state, w, r, IDLE)))

    def _begin(self, out, state, w, r):
        """Right before the call: lock, heartbeat and slot. What is not fit is withdrawn, what is late waits again."""
        run, task = state[2][w][0], state[2][w][1 + r]
        if run == RUNS and task & ~STALE == GRANTED:
            out.append(("checked", _task(state, w, r, task & STALE | CHECKED)))
        if run == THAWED:
            out.append(("not fit", _task(state, w, r, task & STALE | TAKES_BACK)))
        if task & STALE or state[3][r].row != CALLING:
            out.append(("its slot has passed", _task(state, w, r, IDLE)))
            return
        back = _set(state, r, row=INTENT)
        out.append(("its slot has passed", _task(back, w, r, HOLDS)))
        if _left(state, "answer"):
            for made in (state, back):
                out.append(("its slot has passed" + LOST, _spent(_task(made, w, r, TAKES_BACK), "answer")))

    def _take_back(self, out, state, w, r, label):
        """Void what this process has not called and will not call."""
        row = state[3][r].row
        if state[2][w][1 + r] & STALE or row not in VOIDED:
            out.append((label, _task(state, w, r, IDLE)))
            return
        void = _void(state, r, VOIDED[row])
        out.append((label, _task(void, w, r, IDLE)))
        if _left(state, "answer"):
            out.append((label + LOST, _spent(_task(void, w, r, TAKES_BACK | STALE), "answer")))

    def _call(self, out, state, w, r):
        """From the check to the wire: nothing but a freeze comes between."""
        stale, reminder = state[2][w][1 + r] & STALE, state[3][r]
        if reminder.row in (CANCELLED, CANCELLED_INTENT):
            out.append(("called", "a call began after its cancel"))
            return
        under_way = {"stray": min(2, reminder.stray + 1)} if stale else {"net": 1}
        out.append(("called", _set(_task(state, w, r, stale | OUT), r, **under_way)))
        out.append(("nothing left us", _task(state, w, r, stale | NO)))

    def _time_out(self, out, state, w, r):
        stale = state[2][w][1 + r] & STALE
        if stale or not state[3][r].net:
            out.append(("timed out", _task(state, w, r, stale | SILENCE)))
        elif _left(state, "reply"):
            out.append(("timed out, the request under way", _spent(_task(state, w, r, SILENCE), "reply")))

    def _write(self, out, state, w, r):
        """T2, guarded by the attempt's own state: only `calling`, or an unknown, takes an ending."""
        task, reminder = state[2][w][1 + r], state[3][r]
        written = state
        if not task & STALE and reminder.row in TAKES_AN_ENDING:
            written = self._ending(state, r, task)
        elif self.wrong == "status check, call, update" and task & ~STALE == YES:
            written = _set(state, r, row=ACCEPTED)
        elif self.wrong == "an outcome is written whatever became of the rows" and task & ~STALE == NO:
            written = _void(state, r, WAITING)
        out.append(("T2", _task(written, w, r, IDLE)))
        if written is not state and _left(state, "answer"):
            out.append(("T2" + LOST, _spent(written, "answer")))

    def _ending(self, state, r, heard):
        """A refusal frees the reminder, unless its provider was asked again meanwhile: who knows what it took."""
        reminder = state[3][r]
        if heard == NO or (heard == SILENCE and self.wrong == "an unknown is called again"):
            if reminder.ask != NEVER and self.wrong != "a late refusal frees what was asked about":
                return state
            free = _void(state, r, CANCELLED if reminder.taken_back else WAITING)
            return _set(free, r, step=reminder.step + reminder.due)
        due = self._next_step(reminder)
        if (
            heard == SILENCE
            and reminder.due
            and self.wrong == "an outcome that is written twice raises the step twice"
        ):
            due = 2
        return _set(state, r, row=ACCEPTED if heard == YES else UNKNOWN, due=due)

    def _next_step(self, reminder):
        """1 while a step of its escalation is left."""
        wrong = self.wrong == "what ends late goes on though its next step was cancelled"
        return int(reminder.step + 1 < self.budget.steps and (wrong or not reminder.taken_back))

    # What fails.

    def _fail(self, out, state, w):
        run, *tasks = state[2][w]
        if run == FROZEN:
            out.append(("thaws", _run(state, w, THAWED, [_late(task) for task in tasks])))
            return
        if run == THAWED:
            out.append(("its heart beats again", _run(state, w, RUNS, tasks)))
        elif any(tasks) and _left(state, "freeze"):
            out.append(("frozen until judged dead", _spent(_run(state, w, FROZEN, tasks), "freeze")))
        if any(tasks) and _left(state, "kill"):
            out.append(("killed", _spent(_run(state, w, RUNS, [IDLE] * len(tasks)), "kill")))

    # What the provider and the network do.

    def _provide(self, out, state, r):
        reminder = state[3][r]
        if reminder.net:
            drops = reminder.held and self.budget.own_key
            taken = _set(
                state, r, net=0, held=1, reached=reminder.reached if drops else min(2, reminder.reached + 1)
            )
            gone = _set(state, r, net=0)
            out.append(("the provider takes it", _reply(taken, r, YES)))
            if not drops:
                out.append(("the provider refuses it", _reply(gone, r, NO)))
            if _left(state, "reply"):
                out.append(("the reply is lost", _spent(taken, "reply")))
            if _left(state, "request"):
                out.append(("the request is lost", _spent(gone, "request")))
        if reminder.stray:
            taken = _set(state, r, stray=reminder.stray - 1, reached=min(2, reminder.reached + 1))
            out.append(("the provider takes it", _reply(taken, r, YES | STALE)))
        if reminder.held and reminder.row in TAKES_AN_ENDING:
            out.append(("a receipt comes", self._told(state, r)))
        if reminder.held and reminder.reached and reminder.row in GIVEN_UP_FROM and _left(state, "given_up"):
            out.append(("the provider gives it up", _spent(self._given_up(state, r), "given_up")))

    def _given_up(self, state, r):
        """It was taken and reaches nobody: the reminder is free, for its next step where that has its time."""
        reminder = state[3][r]
        free = _void(state, r, CANCELLED if reminder.taken_back else WAITING)
        return _set(free, r, reached=0, step=reminder.step + reminder.due)

    def _told(self, state, r):
        wrong = self.wrong == "a dead owner's escalation ends"
        return _set(state, r, row=ACCEPTED, due=state[3][r].due if wrong else self._next_step(state[3][r]))

    # What the sweep does (gateway/sweep.py).

    def _sweep(self, out, state, r):
        reminder = state[3][r]
        if reminder.row in (INTENT, CANCELLED_INTENT) and self.wrong != "nobody voids what the dead left":
            out.append(("sweep: void", _void(state, r, VOIDED[reminder.row])))
        if reminder.row != CALLING or self.wrong == "nobody marks what the dead were calling":
            return
        owner = _owner(state, r)
        if owner is None or state[2][owner][0] != RUNS:
            due = 0 if self.wrong == "a dead owner's escalation ends" else self._next_step(reminder)
            out.append(("sweep: unknown, its owner is dead", _set(state, r, row=UNKNOWN, due=due)))
        elif self.wrong == "a lease that ends is enough":
            out.append(("sweep: its lease is over", _void(state, r, WAITING)))
        elif self.wrong == "an old heartbeat is enough":
            out.append(("sweep: unknown", "unknown, and its owner is alive and no reply was lost"))

    # What reconcile does after the quarantine (gateway/reconcile.py).

    def _settle(self, out, state, r):
        reminder = state[3][r]
        if reminder.row == UNKNOWN:
            if self.wrong == "no quarantine" or self._quarantine_over(state, r):
                out.append(("the quarantine is over", _set(state, r, row=ASKABLE)))
        elif self.budget.own_key:
            self._ask_again(out, state, r)
        elif reminder.row == ASKABLE:
            if reminder.held:
                out.append(("the provider shows it", _set(state, r, row=ACCEPTED)))
            elif self.wrong in ("no quarantine", "what is not shown is called again"):
                out.append(("not shown: due again", _void(state, r, WAITING)))
            out.append(("parked", _set(state, r, row=PARKED)))

    def _quarantine_over(self, state, r):
        """It outlasts every call of a process that runs, and whatever is in the network; not one that is frozen."""
        begun = any(worker[0] != FROZEN and worker[1 + r] in (CHECKED, OUT) for worker in state[2])
        return not begun and not state[3][r].net

    def _ask_again(self, out, state, r):
        """The same request under the same key: guarded and noted, sent, and then what it came to is written."""
        reminder = state[3][r]
        if reminder.ask == CLEARED:
            taken = _set(
                state,
                r,
                held=1,
                ask=HEARD,
                reached=reminder.reached if reminder.held else min(2, reminder.reached + 1),
            )
            out.append(("asked again: yes", taken))
            out.append(("asked again: nothing", _set(state, r, ask=NOTHING)))
            if _left(state, "reply"):
                out.append(("the reply is lost", _spent(_set(taken, r, ask=NOTHING), "reply")))
        elif reminder.ask in (HEARD, NOTHING):
            heard = reminder.ask == HEARD and reminder.row in TAKES_AN_ENDING
            out.append(("settled", _set(state, r, row=ACCEPTED if heard else reminder.row, ask=ASKED)))
        elif reminder.row == ASKABLE:
            if not state[1]:
                out.append(("reconcile: may ask again", _set(state, r, ask=CLEARED)))
            out.append(("the key is too old: parked", _set(state, r, row=PARKED)))
        elif reminder.row == PARKED and self.wrong == "asked again when the key is forgotten":
            out.append(("reconcile: asks by an old key", _set(state, r, held=0, ask=CLEARED)))
        elif reminder.held and self.budget.forgets and reminder.row in (PARKED, ACCEPTED):
            out.append(("the provider forgets the key", _set(state, r, held=0)))
        if reminder.ask in (CLEARED, HEARD, NOTHING) and _left(state, "kill"):
            out.append(("killed", _spent(_set(state, r, ask=ASKED), "kill")))

    # What services do.

    def _cancel(self, out, state, r):
        """It meets go on the reminder's own row, and one of the two wins."""
        row = state[3][r].row
        if not _left(state, "cancel"):
            return
        if state[3][r].due:
            out.append(("cancelled", _spent(_set(state, r, due=0, taken_back=1), "cancel")))
        if row == WAITING:
            out.append(("cancelled", _spent(_set(state, r, row=CANCELLED), "cancel")))
        elif row == INTENT or (row == CALLING and self.wrong == "cancel looks at attempts and then writes"):
            out.append(("cancelled", _spent(_set(state, r, row=CANCELLED_INTENT), "cancel")))

    # What is promised.

    def harm(self, state):
        """What somebody suffers in a state; None when nobody does."""
        if any(reminder.reached > 1 for reminder in state[3]):
            return "somebody was reached twice for one step of a reminder"
        if sum(reminder.step + reminder.reached for reminder in state[3]) > self.cap:
            return "somebody was reached more often than the cap allows"
        return None

    def broken(self, state):
        """Harm, and what would lead to it: the rows have to know at least what the provider knows."""
        for reminder in state[3]:
            if reminder.reached and reminder.row < COUNTED:
                return "somebody was reached, and it does not count"
            if reminder.row == ACCEPTED and not reminder.reached:
                return "said to be sent, and nobody was reached"
        if sum(reminder.step + (reminder.row >= COUNTED) for reminder in state[3]) > self.cap:
            return "more is under way than the cap allows"
        return self.harm(state)

    def ended(self, state):
        """Whether each reminder has come to an end or is parked; with every process frozen nobody can do anything."""
        return all(worker[0] == FROZEN for worker in state[2]) or all(
            reminder.row in ENDS
            and not reminder.due
            and (reminder.row not in CALLED or self._last(state, reminder))
            for reminder in state[3]
        )

    def _last(self, state, reminder):
        return state[1] or not self._next_step(reminder)


def free(label):
    """Whether a step comes by itself: no fault, and no thaw of what froze."""
    return label not in FAULTS and not label.endswith(LOST)


def canonical(state):
    """The same state for all ways to name the workers and the reminders."""
    left, stop, (one, two), reminders = state
    least = (left, stop, (one, two) if one <= two else (two, one), reminders)
    if len(reminders) == 1:
        return least
    one, two = (one[0], one[2], one[1]), (two[0], two[2], two[1])
    return min(least, (left, stop, (one, two) if one <= two else (two, one), (reminders[1], reminders[0])))


def _left(state, kind):
    return state[0] >> SHIFT[kind] & 15


def _spent(state, kind):
    return state[0] - (1 << SHIFT[kind]), *state[1:]


def _put(items, place, item):
    return (*items[:place], item, *items[place + 1 :])


def _put_reminder(state, r, reminder):
    return *state[:3], _put(state[3], r, reminder)


def _set(state, r, **fields):
    return _put_reminder(state, r, state[3][r]._replace(**fields))


def _task(state, w, r, task):
    left, stop, workers, reminders = state
    return left, stop, _put(workers, w, _put(workers[w], 1 + r, task)), reminders


def _run(state, w, run, tasks):
    left, stop, workers, reminders = state
    return left, stop, _put(workers, w, (run, *tasks)), reminders


def _late(task):
    """After a freeze the slot of what had its go has passed."""
    return LATE | task & STALE if task & ~STALE == GRANTED else task


def _void(state, r, row):
    """The latest attempt counts no more, and the reminder is free for another."""
    old = state[3][r]
    stray = min(2, old.stray + old.net)
    new = Reminder(row=row, stray=stray, reached=old.reached, step=old.step)
    return _put_reminder(_outdated(state, r), r, new)


def _step_over(state, r):
    """Another step begins. What the last one's attempt may still reach, once at most, is followed no further."""
    left, stop, workers, reminders = state
    workers = tuple(
        _put(worker, 1 + r, IDLE) if worker[1 + r] in (GRANTED, CHECKED, OUT) else worker
        for worker in workers
    )
    new = Reminder(stray=reminders[r].stray)
    return _outdated((left, stop, workers, _put(reminders, r, new)), r)


def _outdated(state, r):
    """Whoever works at the latest attempt will find that it is not that any more."""
    left, stop, workers, reminders = state
    return left, stop, tuple(_put(worker, 1 + r, _old(worker[1 + r])) for worker in workers), reminders


def _old(task):
    return IDLE if task in (IDLE, FORGOT, COUNTS) else task | STALE


def _owner(state, r):
    """The worker that the latest attempt belongs to; None when it is gone."""
    for w, worker in enumerate(state[2]):
        if IDLE < worker[1 + r] < STALE and worker[1 + r] != COUNTS:
            return w
    return None


def _reply(state, r, heard):
    """Whoever waits for this reply has it, frozen or not."""
    for w, worker in enumerate(state[2]):
        if worker[1 + r] == OUT | heard & STALE:
            return _task(state, w, r, heard)
    return state
