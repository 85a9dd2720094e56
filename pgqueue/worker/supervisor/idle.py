"""How a claimer sleeps when the queue brings nothing, and what wakes it.

A worker says in its row that it sleeps, and a defer rings only if some row says so. Each look at the queue is an
event; what follows it depends on the state.

state    nothing there               nothing, and a bell rang    jobs      jobs for AWAKE_S without a pause
-------  --------------------------  --------------------------  --------  --------------------------------
AWAKE    mark the row -> MARKED      mark the row -> MARKED      continue  continue
MARKED   wait briefly -> WAITING     promote -> RUNG             continue  take the mark off -> AWAKE
RUNG     wait briefly -> WAITING     promote -> RUNG             continue  take the mark off -> AWAKE
WAITING  wait longer each time       promote -> RUNG             continue  take the mark off -> AWAKE

Another look at the queue follows each of these. "A bell rang" is true from the bell until the promotion that answers it,
AWAKE or not. The mark stays on while jobs come in only now and then. A wait ends with a bell, when a job falls due, or by
time. When every slot is taken the queue is not looked at: then the claimer waits for capacity, whatever the state.

The races, and what closes them:

* A defer reads the row before it is marked, and commits before the next look: the look that follows MARKED finds its job.
* It commits after that look: the brief wait ends in a second look, and longer and longer waits up to the polls in others.
* A bell rang for a job whose row another session has locked: RUNG begins the brief waits again.
* A bell rang for a job that falls due in a moment: the promotion learns when.
* A bell rings while a look or a promotion is under way: `hear` takes it off before the look, so it is still there for the wait.
"""

import asyncio
import math
import time
from enum import Enum, auto

from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.worker.settings import POLL_ALONE_S, POLL_S
from pgqueue.worker.supervisor.wakeups import Wakeups

SECOND_LOOK_S = 0.05  # longer than an autocommit INSERT takes from its snapshot to its commit, on a good disk
LATER_LOOK = 4  # times as long until the next look, up to a poll: on a slow disk that commit takes a while
BELL_AHEAD_S = 10.0  # insert.sql rings for jobs that are due within this time
LOCKED_LOOK_S = 0.05  # until the next look for a due job that another session has locked
AWAKE_S = 0.5  # busy for this long without a pause: the mark comes off
BURST_POLL_S = 0.2  # a burst ends soon after the last job, which may be another worker's


class Sleep(Enum):
    """What was done last about the sleep."""

    AWAKE = auto()  # the row has no mark: no defer rings for this worker
    MARKED = auto()  # the row says that it sleeps, and the queue is looked at once more
    RUNG = auto()  # a bell was answered by a promotion, and the queue is looked at once more
    WAITING = auto()


class Step(Enum):
    """What to do before the next look."""

    CONTINUE = auto()
    MARK = auto()
    UNMARK = auto()
    PROMOTE = auto()
    WAIT = auto()


class Idle:
    """The sleep of one claimer: told what each look brought, it says what comes next. It sends nothing itself.

    The doorbell ends a wait between looks, capacity one for room.
    """

    def __init__(self, wakeups: Wakeups, *, burst: bool, alarms: SpuriousWakeups) -> None:
        self.wakeups = wakeups
        self.state = Sleep.AWAKE
        self._burst = burst
        self._alarms = alarms
        self._rung = False  # since the last promotion that answered a bell
        self._busy_since: float | None = None
        self._wait_s = SECOND_LOOK_S

    @property
    def marked(self) -> bool:
        """The row says that this worker sleeps."""
        return self.state is not Sleep.AWAKE

    @property
    def busy(self) -> bool:
        """The last look brought jobs."""
        return self._busy_since is not None

    @property
    def poll_s(self) -> float:
        """The longest wait: no bell is relied on for longer."""
        return POLL_S if self.wakeups.listens else POLL_ALONE_S

    # -- bells --

    def hear(self) -> bool:
        """Whether a bell rang since the last look. Before a look, never after it: one that rings meanwhile must end the wait."""
        rang = self.wakeups.doorbell.is_set()
        self._rung = self._rung or rang
        self.wakeups.doorbell.clear()
        return rang

    # -- what a look brought --

    def found_jobs(self) -> Step:
        """Jobs came."""
        # Heard or not yet: under a steady load a claim often comes before its bell, which is then needless.
        self.wakeups.unanswered = False
        self._alarms.answered(for_nothing=False)
        now = time.monotonic()
        self._busy_since = self._busy_since or now
        return Step.UNMARK if self.marked and now - self._busy_since > AWAKE_S else Step.CONTINUE

    def found_nothing(self) -> Step:
        """No jobs came."""
        self._busy_since = None
        if not self.marked:
            return Step.MARK
        return Step.PROMOTE if self._rung else Step.WAIT

    # -- what was done about it --

    def mark(self, sleeping: bool) -> None:
        """The row says so now."""
        # MARKED, not WAITING: a defer that read the row before may have committed since the last look.
        self.state = Sleep.MARKED if sleeping else Sleep.AWAKE
        self.wakeups.sleeping = sleeping

    def heed(self) -> None:
        """The promotion that answers the bell begins: one that rings from now on is another."""
        self._rung = False

    def answered(self) -> None:
        """The promotion that answers the bell is done."""
        # Brief waits again: the bell may have been for a job that we skipped, because another worker that came too late to
        # promote it holds its row until the end of its statement.
        self.state = Sleep.RUNG

    async def wait(self, *, at_most_s: float = math.inf) -> None:
        """Wait for the bell: briefly for the first time, then longer each time, and never beyond what falls due."""
        again = self.state is Sleep.WAITING
        self._wait_s = min(self._wait_s * LATER_LOOK, self.poll_s) if again else SECOND_LOOK_S
        self.state = Sleep.WAITING
        longest_s = BURST_POLL_S if self._burst else self.poll_s
        await wait(self.wakeups.doorbell, self._until_due(min(self._wait_s, longest_s, at_most_s)))

    async def wait_for_room(self) -> None:
        """Wait until there may be slots again."""
        await wait(self.wakeups.capacity, self.poll_s)

    # -- what falls due --

    @property
    def due(self) -> bool:
        """A job has fallen due."""
        at = self.wakeups.next_due_at
        return at is not None and time.monotonic() >= at

    def promoted(self, count: int, next_due_s: float | None) -> None:
        """This many jobs were made runnable; the next one falls due after next_due_s."""
        if next_due_s is not None and next_due_s <= 0 and not count:
            next_due_s = LOCKED_LOOK_S  # its row is locked, as by a cancel in a long transaction
        self.wakeups.next_due_at = None if next_due_s is None else time.monotonic() + max(0.0, next_due_s)
        if count:
            self.wakeups.doorbell.set()
        if self.wakeups.unanswered:
            self.wakeups.unanswered = False
            soon = next_due_s is not None and next_due_s <= BELL_AHEAD_S
            self._alarms.answered(for_nothing=not count and not soon)

    def _until_due(self, timeout_s: float) -> float:
        at = self.wakeups.next_due_at
        return timeout_s if at is None else min(timeout_s, max(0.0, at - time.monotonic()))


async def wait(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for an event, or for the time."""
    try:
        async with asyncio.timeout(timeout_s):  # wait_for() of Python 3.11 makes a task of it
            await event.wait()
    except TimeoutError:
        pass
