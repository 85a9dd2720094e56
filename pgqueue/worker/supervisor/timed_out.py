"""What becomes of a job whose child was killed over its time limit: only user code knows the policy, so a child is asked.

A child that is asked may be about to end itself; whatever it leaves unanswered is asked of another.
"""

from collections import deque
from dataclasses import dataclass

from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.worker.settings import CRASH_CAP
from pgqueue.worker.supervisor.child_handle import ChildHandle
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue

CAUSE = "time limit"


@dataclass(slots=True, eq=False)
class Case:
    """One job. `child` is the one that was asked for the policy, `lost` the number of those that ended over it."""

    job: Claimed
    error: str
    child: ChildHandle | None = None
    lost: int = 0


class TimedOutJobs:
    """Asks the first child that answers. `children` is the list that Children keeps; what is decided without one goes into the
    outcome queue.
    """

    def __init__(self, children: list[ChildHandle], outcome_queue: OutcomeQueue) -> None:
        self._children = children
        self._outcome_queue = outcome_queue
        self._waiting: deque[Case] = deque()
        self._asked: dict[str, Case] = {}

    def add(self, job: Claimed, error: str) -> None:
        """One more job."""
        self._waiting.append(Case(job, error))
        self.ask()

    def ask(self) -> None:
        """Ask for all that wait, if there is a child to be asked."""
        child = next((child for child in self._children if child.answers), None)
        while child is not None and self._waiting:
            case = self._waiting.popleft()
            case.child = child
            self._asked[case.job.id] = case
            child.send("ask_policy", case.job, CAUSE, case.error)

    def answered(self, job_id: str) -> bool:
        """The outcome of this job came. False: it was not asked for."""
        return self._asked.pop(job_id, None) is not None

    def ended(self, child: ChildHandle) -> None:
        """A child has ended: ask another, unless it is the policy that ends them."""
        for case in [case for case in self._asked.values() if case.child is child]:
            del self._asked[case.job.id]
            case.lost += 1
            if case.lost < CRASH_CAP:
                self._waiting.append(case)
            else:
                error = f"{case.error}; the process that asked its retry policy ended {case.lost} times"
                self._outcome_queue.deliver(
                    [Outcome(case.job.id, case.job.token, Verdict.DEAD, cause=CAUSE, error=error)]
                )
        self.ask()

    def ids(self) -> set[str]:
        """The jobs of which nothing is decided yet."""
        return self._asked.keys() | {case.job.id for case in self._waiting}

    def clear(self) -> list[Claimed]:
        """Drop them all."""
        jobs = [case.job for case in (*self._asked.values(), *self._waiting)]
        self._asked.clear()
        self._waiting.clear()
        return jobs
