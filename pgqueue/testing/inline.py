"""A worker within this process: what it says to the database of one job after the other, by the statements of a real one.

While it works it has a row among the workers, as the fence wants: so what it leaves in the tables is what a worker leaves.
"""

import logging
import os
import uuid
from collections.abc import Sequence
from functools import partial

import pgqueue
from pgqueue.app import App
from pgqueue.errors import PgQueueError
from pgqueue.gates.admit import admit_by_steps
from pgqueue.job import EXPIRED, Claimed, Outcome, State, Verdict
from pgqueue.queries import Steps, ask
from pgqueue.queries.testing import KitQueries
from pgqueue.testing.witness import Witness
from pgqueue.worker.child.fingerprint import fingerprint
from pgqueue.worker.supervisor.finisher import settle_columns
from pgqueue.worker.supervisor.identity import session_name

logger = logging.getLogger("pgqueue.testing")

LONG_LEASE_S = 86_400.0  # a task may be held in a debugger; nobody else runs what this one has claimed


class Inline:
    """Claims jobs for one drain, one at a time, and records their ends."""

    def __init__(self, app: App, *, queues: Sequence[str] | None = None) -> None:
        self._app = app
        self._queries = app.queries
        self._kit = KitQueries(app.config)
        self._queues = None if queues is None else list(queues)
        self.worker = str(uuid.uuid4())
        self.name = f"drain@{os.getpid()}"
        self.unknown: set[str] = set()
        self.gates: set[str] = set()
        """Those that are to be looked at, as a worker would now."""
        self._gates_of: dict[str, list[str]] = {}

    @property
    def session_name(self) -> str:
        return session_name(self.worker)

    def sign_in(self) -> Steps[None]:
        yield self._queries.register(
            worker=self.worker, lease_s=LONG_LEASE_S, lock_key=None, pid=os.getpid(), concurrency=1, name=self.name,
            version=pgqueue.__version__, app="pgqueue.testing", queues=self._queues, tasks=sorted(self._app.tasks),
            code=fingerprint(self._app), schedules=[],
        )  # fmt: skip
        if rules := [rule.as_json() for rule in self._app.rules()]:
            yield self._queries.declare_gates(rules)
        self.gates.update((yield from ask(self._kit.gates())))

    def sign_out(self) -> Steps[None]:
        yield self._queries.depart(worker=self.worker)

    def take(self) -> Steps[tuple[Claimed, Outcome | None] | None]:
        """The next job that is due, in the order of a worker; with its end where that needs no run. None: nothing is due."""
        yield from self._promote()
        while True:
            unknown = sorted(self.unknown)
            (heads,) = yield from ask(self._queries.heads(queues=self._queues, unknown=unknown))
            self.gates.update(heads.fresh)
            found = zip(heads.queues, heads.priorities, heads.seqs, strict=True)
            cursors = sorted(
                ((queue, priority, seq - 1) for queue, priority, seq in found), key=lambda at: (-at[1], at[2])
            )
            if not cursors:
                return None
            jobs = yield from ask(self._queries.claim(worker=self.worker, cursors=cursors, unknown=unknown, limit=1))
            if not jobs:  # another has locked it
                return None
            if jobs[0].task not in self._app.tasks:
                yield from self._refuse(jobs[0])
            elif gates := self._to_park(jobs[0]):
                yield from self._settle(Outcome(jobs[0].id, jobs[0].token, Verdict.PARK, gates=gates))
            else:
                self._gates_of[jobs[0].id] = jobs[0].gates or []
                return jobs[0], _expired(jobs[0])

    def let_through(self, *, own: bool) -> Steps[None]:
        """Look at the gates. own: in a transaction of its own."""
        admitted = yield from admit_by_steps(self._queries, self.gates, worker=self.worker, own=own)
        self.gates = admitted.again

    def _to_park(self, job: Claimed) -> list[str] | None:
        """The gates that it has not passed yet."""
        task = self._app.tasks[job.task]
        if job.astray or not task.lacks_gates(job):
            return job.gates if job.astray else None
        try:
            args, kwargs = task.codec.decode(job.args, job.kwargs)
            return task.all_gates(job, args, kwargs)
        except PgQueueError:  # the attempt fails for it
            return None

    def take_this(self, job_id: str) -> Steps[tuple[Claimed, Outcome | None] | None]:
        """This job, due or not. None: it cannot be claimed."""
        places = yield from ask(self._kit.make_due(job_id))
        if not places:
            return None
        (queue, priority, seq), strangers = places[0], sorted(self.unknown)
        cursors = [(queue, priority, seq - 1)]
        jobs = yield from ask(self._queries.claim(worker=self.worker, cursors=cursors, unknown=strangers, limit=1))
        if not jobs:
            return None
        if jobs[0].task in self._app.tasks:
            return jobs[0], _expired(jobs[0])
        yield from self._refuse(jobs[0])
        return None

    def _promote(self) -> Steps[None]:
        """By the clock and not by now(), which does not move within a transaction."""
        while True:
            (now,) = yield from ask(self._kit.now())
            (due,) = yield from ask(self._queries.promote(worker=self.worker, now=now))
            self.gates.update(due.gates)
            if not due.promoted:
                return

    def _refuse(self, job: Claimed) -> Steps[None]:
        self.unknown.add(job.task)
        logger.error("job %s: the app has no task named %r: import its module; the job stays queued", job.id, job.task)
        yield from self._settle(Outcome(job.id, job.token, Verdict.RELEASE))

    def attempt(self, job: Claimed) -> Witness:
        return Witness(job, self._app, worker=self.worker)

    def record(self, outcome: Outcome) -> Steps[State | None]:
        """Write down how an attempt ended; the job's state then. None: the job is not this attempt's any longer."""
        self.gates.update(self._gates_of.pop(outcome.job_id, ()))
        say, job_id, token = self._queries, outcome.job_id, outcome.token
        match outcome.verdict:
            case Verdict.LOST:
                return None
            case Verdict.COMMITTED:
                return State.SUCCEEDED
            case Verdict.SUCCEEDED:
                finish = partial(say.finish, worker=self.worker, ids=[job_id], tokens=[token])
                return State.SUCCEEDED if (yield from ask(finish(results=[outcome.result]))) else None
            case Verdict.UNSURE:
                tokens = yield from ask(say.revoke(worker=self.worker, job_id=job_id, token=token))
                if not tokens:
                    return State.SUCCEEDED
                outcome = outcome._replace(token=tokens[0], verdict=outcome.otherwise or Verdict.DEAD)
            case Verdict.MISFIT:
                if (yield from ask(say.hand_back(worker=self.worker, job_id=job_id, token=token))):
                    return State.SCHEDULED
                outcome = outcome._replace(verdict=outcome.otherwise or Verdict.DEAD)
        return (yield from self._settle(outcome))

    def _settle(self, outcome: Outcome) -> Steps[State | None]:
        self.gates.update(outcome.gates or ())
        columns = settle_columns([outcome])
        rows = yield from ask(self._queries.settle(worker=self.worker, worker_name=self.name, columns=columns))
        return State(rows[0].state) if rows else None


def _expired(job: Claimed) -> Outcome | None:
    return Outcome(job.id, job.token, Verdict.CANCELLED, error=EXPIRED) if job.expired else None
