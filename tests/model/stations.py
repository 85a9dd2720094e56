"""A worker driven by hand, statement by statement, as lease.py, claimer.py, finisher.py and executor.py send them."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from pgqueue import db
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.worker.settings import CRASH_CAP, FRESH_S, GRACE_S, LEASE_S, POOLED_LEASE_S
from pgqueue.worker.supervisor.cursors import TRAIL_S, Cursors
from pgqueue.worker.supervisor.finisher import settle_columns
from pgqueue.worker.supervisor.identity import session_name
from tests.model.model import SECOND, Job, Sweep
from tests.model.world import World

KINDS = ("succeeded", "failed", "dead", "cancelled")


@dataclass
class Attempt:
    """A claimed job. `conn`: the transaction of an atomic one; `finished`: its finish was sent and had its row back."""

    worker: str
    job_id: str
    token: int
    task: str
    expired: bool = False
    conn: psycopg.Connection | None = None
    finished: bool = False

    @property
    def mark(self) -> str:
        return f"{self.job_id}:{self.token}"


class Station:
    """One worker: its control connection with the session lock, its line, and the attempts in its hand."""

    def __init__(
        self, world: World, *, queues: Sequence[str] | None, unknown: str, pooled: bool, code: str | None = None
    ) -> None:
        self.world = world
        self.queues = None if queues is None else list(queues)
        self.unknown = unknown
        self.pooled = pooled
        self.code = code
        self.frozen = False
        self.draining = False
        self.counts: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.cursors = Cursors()
        self._claims = 0
        self.control: psycopg.Connection | None = None
        self.line: psycopg.Connection | None = None
        self._take_identity()

    def _take_identity(self) -> None:
        self.id = str(uuid.uuid4())
        self.key = None if self.pooled else uuid.UUID(self.id).int & 0x7FFFFFFF
        self.registered = False
        self.hand: list[Attempt] = []
        self.claiming: list[Job] = []
        self.sweep: Sweep | None = None
        self.ghosts: list[psycopg.Connection] = []
        self._lock_conn: psycopg.Connection | None = None

    @property
    def name(self) -> str:
        """The application_name of all its sessions."""
        return session_name(self.id)

    @property
    def _lease_s(self) -> float:
        return POOLED_LEASE_S if self.pooled else LEASE_S

    @property
    def is_up(self) -> bool:
        """It acts, and the server hears it."""
        return not self.frozen and self.control is not None

    # -- sessions --

    def connect(self) -> None:
        """Sign in, or come back."""
        self.control = self.world.session(self.name)
        self._lock()
        if not self.registered:
            row: dict[str, Any] = {
                "pid": 1,
                "concurrency": 1,
                "name": "by hand",
                "version": "0",
                "app": "",
                "tasks": list(self.world.tasks),
                "code": self.code,
            }
            now, _ = self.world.say(self.control, self.world.queries.register(
                worker=self.id, lease_s=self._lease_s, lock_key=self.key, queues=self.queues, **row
            ))  # fmt: skip
            self.world.model.register(
                self.id, key=self.key, queues=self.queues, code=self.code, now=now, lease_s=self._lease_s
            )
            self.registered = True
        if self.line is None:
            self.line = self.world.session(self.name)

    def _lock(self) -> None:
        """As each heartbeat does while it has no lock: a session of its past may still hold it."""
        if self.key is None or (self._lock_conn is not None and self._lock_conn is self.control):
            return
        assert self.control is not None
        (locked,) = db.run(self.control, self.world.queries.lock(self.key))
        assert locked == (self._lock_conn is None), "two sessions hold one lock"
        if locked:
            self._lock_conn = self.control
            self.world.model.locks[self.id] = self.key

    def lose_control(self, *, unseen: bool) -> None:
        """The control connection breaks; if unseen, the server still takes the session for alive."""
        assert self.control is not None
        conn, self.control = self.control, None
        if unseen:
            self.ghosts.append(conn)
        else:
            self.world.terminate(conn)
            self._unlock(conn)

    def reap(self) -> None:
        """The server notices that a session is gone."""
        conn = self.ghosts.pop()
        self.world.cut(conn)
        self._unlock(conn)

    def _unlock(self, *conns: psycopg.Connection) -> None:
        if self._lock_conn in conns:
            self._lock_conn = None
            del self.world.model.locks[self.id]

    def crash(self) -> None:
        """The whole process is gone, with all its sessions."""
        conns = self.world.sessions(self.name)
        self.world.cut(*conns)
        self._lose(conns)

    def was_buried(self) -> int:
        """The server ended all its sessions; how many there were."""
        conns = self.world.sessions(self.name)
        self.world.terminated(conns)
        self._lose(conns)
        return len(conns)

    def lose_all(self) -> None:
        """The server ended every session."""
        self._lose([self._lock_conn] if self._lock_conn else [])

    def _lose(self, conns: Sequence[psycopg.Connection]) -> None:
        """These sessions are gone, and their transactions rolled back."""
        self.control = self.line = None
        self.ghosts.clear()
        self._unlock(*conns)
        self._forget_claim()
        for attempt in self.hand:
            if attempt.conn is not None:
                attempt.conn = None
                if attempt.finished:
                    self.world.let_go([attempt.job_id])

    # -- claim --

    def claim(self, limit: int, *, after: bool) -> None:
        """Lock the best jobs. The transaction stays open: commit_claim or lose_claim follows."""
        assert self.line is not None
        world, model = self.world, self.world.model
        now = world.opened(self.line)
        if not after or not self.cursors:
            self._look()
        cursors = self.cursors.positions()
        expected = model.claim(self.id, cursors=cursors, unknown=self.unknown, limit=limit)
        statement = world.queries.claim(worker=self.id, cursors=cursors, unknown=[self.unknown], limit=limit)
        jobs = sorted(map(Claimed._make, db.run(self.line, statement)), key=lambda job: (-job.priority, job.seq))
        order = sorted(expected, key=lambda job: (-job.priority, job.seq or 0))
        seen = [(job.id, job.token, job.attempt, job.crashes, bool(job.expired)) for job in jobs]
        assert seen == [
            (job.id, job.token + 1, job.attempt + 1, job.crashes, job.expires_at is not None and job.expires_at < now)
            for job in order
        ], f"not the best jobs: {seen}, by the model {order}"
        self._claims += 1
        self.cursors.advance(jobs, sent=cursors, now_s=self._claims * TRAIL_S)  # it moves with every second claim
        self.claiming = order
        self._arriving = [Attempt(self.id, job.id, job.token, job.task, bool(job.expired)) for job in jobs]
        world.hold([job.id for job in order])

    def _look(self) -> None:
        """Move the cursors back to what lies below them."""
        assert self.line is not None
        statement = self.world.queries.heads(queues=self.queues, unknown=[self.unknown])
        ((queues, priorities, seqs, *_),) = db.run(self.line, statement)
        heads = dict(zip(zip(queues, priorities, strict=True), seqs, strict=True))
        expected = self.world.model.heads(queues=self.queues, unknown=self.unknown)
        assert heads == expected and len(queues) == len(heads), f"not where work is: {heads}, by the model {expected}"
        self.cursors.rewind(zip(queues, priorities, seqs, strict=True), since=self.cursors.snapshot())
        hidden = {pair: seq for pair, seq in heads.items() if seq <= self.cursors.snapshot()[pair]}
        assert not hidden, f"below the cursors: {hidden}"

    def commit_claim(self, *, answered: bool = True) -> list[Attempt]:
        """The claim is done; without an answer its jobs are this worker's, and nobody here knows. Returns what arrived."""
        assert self.line is not None
        if answered:
            self.line.execute("commit")
            self.world.ended(self.line)
        else:
            conn, self.line = self.line, None
            self.world.cut(conn, sent="commit")
            self.line = self.world.session(self.name)
        claimed, self.claiming = self.claiming, []
        self.world.model.taken(self.id, claimed)
        self.world.let_go([job.id for job in claimed])
        arrived = self._arriving if answered else []
        marks = {attempt.mark for attempt in arrived}
        for attempt in [attempt for attempt in self.hand if attempt.mark in marks]:  # after a fail-over
            if attempt.conn is not None:
                self.roll_back(attempt)
            self.take([attempt])
        self.hand += arrived
        return arrived

    def lose_claim(self) -> None:
        """The line breaks before the claim committed."""
        assert self.line is not None
        conn, self.line = self.line, None
        self.world.cut(conn)
        self._forget_claim()
        self.line = self.world.session(self.name)

    def _forget_claim(self) -> None:
        claimed, self.claiming = self.claiming, []
        self.world.let_go([job.id for job in claimed])

    # -- outcomes --

    def take(self, attempts: Sequence[Attempt]) -> None:
        """These leave the hand."""
        self.hand = [attempt for attempt in self.hand if attempt not in attempts]

    def finish(self, attempts: Sequence[Attempt], *, answered: bool = True) -> None:
        """Let them succeed in one statement. Without an answer the line is new, and the statement is sent again."""
        assert self.line is not None
        world, model = self.world, self.world.model
        attempts = sorted(attempts, key=lambda attempt: attempt.job_id)
        ids, tokens = [a.job_id for a in attempts], [a.token for a in attempts]
        statement = world.queries.finish(worker=self.id, ids=ids, tokens=tokens, results=["null"] * len(ids))
        _, rows = world.say(self.line, statement)
        done = model.finish(self.id, ids, tokens)
        assert {row[0] for row in rows} == done, f"finished {rows}, by the model {done}"
        if not answered:
            world.cut(self.line)
            self.line = world.session(self.name)
            _, again = world.say(self.line, statement)
            assert again == [], "finished twice"
            _, known = world.say(
                self.line, world.queries.recorded(worker=self.id, ids=ids, tokens=tokens, kept=[True] * len(ids))
            )
            recorded = model.recorded(self.id, list(zip(ids, tokens, strict=True)))
            assert dict(known) == recorded and recorded.keys() >= done
        self.counts["succeeded"] += len(done)
        self.take(attempts)

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Let attempts end otherwise, in one statement."""
        assert self.line is not None
        statement = self.world.queries.settle(worker=self.id, worker_name="by hand", columns=self.columns(outcomes))
        now, rows = self.world.say(self.line, statement)
        settled = self.world.model.settle(self.id, outcomes, now=now)
        assert {row[0]: row[1] for row in rows} == settled, f"settled {rows}, by the model {settled}"
        for outcome in outcomes:
            if state := settled.get(outcome.job_id):
                self.counts["failed"] += outcome.cause is not None
                if state in KINDS:
                    self.counts[state] += 1
        ended = {(outcome.job_id, outcome.token) for outcome in outcomes}
        self.take([attempt for attempt in self.hand if (attempt.job_id, attempt.token) in ended])

    @staticmethod
    def columns(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
        """The parameters of settle.sql, as the finisher makes them."""
        return settle_columns(outcomes)

    def outcome(self, attempt: Attempt, verdict: Verdict, *, delay_s: float) -> Outcome:
        """As the executor, the children or the claimer would make it."""
        job = self.world.model.jobs.get(attempt.job_id)
        if verdict is Verdict.CRASH and job is not None and job.crashes + 1 >= CRASH_CAP:
            verdict = Verdict.QUARANTINE
        if attempt.expired:
            return Outcome(attempt.job_id, attempt.token, Verdict.CANCELLED, error="expired before it could start")
        match verdict:
            case Verdict.RETRY | Verdict.DEAD:
                return Outcome(
                    attempt.job_id, attempt.token, verdict, delay_s=delay_s, cause="exception", error="broken"
                )
            case Verdict.CRASH | Verdict.QUARANTINE:
                return Outcome(attempt.job_id, attempt.token, verdict, cause="crash", error="its process died")
            case Verdict.SNOOZE:
                return Outcome(attempt.job_id, attempt.token, verdict, delay_s=delay_s)
            case Verdict.CANCELLED:
                return Outcome(attempt.job_id, attempt.token, verdict, error="the task cancelled itself")
        return Outcome(attempt.job_id, attempt.token, verdict)

    def progress(self, attempt: Attempt, fraction: float) -> None:
        assert self.line is not None
        self.world.say(self.line, self.world.queries.progress(
            worker=self.id, ids=[attempt.job_id], tokens=[attempt.token], fractions=[fraction], notes=["so far"]
        ))  # fmt: skip
        self.world.model.progress(self.id, attempt.job_id, attempt.token, fraction)

    def hand_back(self, attempt: Attempt) -> bool:
        """The task does not take these arguments. False: no other worker's would, so the attempt has failed."""
        assert self.line is not None
        ended = late_hand_back(self.world, self.line, self.id, attempt)
        if ended:
            self.take([attempt])
        return ended

    def compare(self) -> None:
        """Give back what the database counts as this worker's and is not in its hand."""
        assert self.line is not None
        _, rows = self.world.say(self.line, self.world.queries.held(worker=self.id))
        mine = self.world.model.running(self.id)
        assert sorted(rows) == sorted((job.id, job.token) for job in mine)
        ours = {attempt.job_id for attempt in self.hand}
        if lost := [Outcome(id_, token, Verdict.RELEASE) for id_, token in rows if id_ not in ours]:
            self.settle(lost)

    # -- atomic tasks --

    def begin_atomic(self, attempt: Attempt) -> None:
        """Open the task's transaction and write its effect."""
        attempt.conn = self.world.session(self.name)
        self.world.opened(attempt.conn)
        db.run(attempt.conn, self.world.queries.atomic_begin(attempt=attempt.mark))
        attempt.conn.execute("insert into shop.effect values (%s, %s)", [attempt.job_id, attempt.token])

    def finish_atomic(self, attempt: Attempt) -> None:
        """The last statement of the task: it takes the row, or everything is rolled back."""
        assert attempt.conn is not None
        rows = db.run(attempt.conn, self.world.queries.finish(
            worker=attempt.worker, ids=[attempt.job_id], tokens=[attempt.token], results=["null"]
        ))  # fmt: skip
        job = self.world.model.fenced(attempt.worker, attempt.job_id, attempt.token)
        assert bool(rows) == (job is not None), f"finished {rows}, by the model {job}"
        if rows:
            assert rows[0][-1] == attempt.mark
            attempt.finished = True
            self.world.hold([attempt.job_id])
        else:
            self._leave(attempt)
            self.take([attempt])

    def commit_atomic(self, attempt: Attempt) -> None:
        assert attempt.conn is not None
        attempt.conn.execute("commit")
        self.world.ended(attempt.conn)
        self._committed(attempt)
        self.counts["succeeded"] += 1
        self._leave(attempt)
        self.take([attempt])

    def lose_commit(self, attempt: Attempt, *, arrives: bool) -> None:
        """The answer to COMMIT never comes: the attempt stays in hand without a connection, to be resolved."""
        assert attempt.conn is not None
        self.world.cut(attempt.conn, sent="commit" if arrives else None)
        attempt.conn = None
        if arrives:
            self._committed(attempt)
        else:
            self.world.let_go([attempt.job_id])

    def _committed(self, attempt: Attempt) -> None:
        self.world.let_go([attempt.job_id])
        assert self.world.model.finish(attempt.worker, [attempt.job_id], [attempt.token])
        self.world.model.effects[attempt.job_id] += 1

    def roll_back(self, attempt: Attempt) -> None:
        """The task raises: nothing of it was. Its outcome is settled later."""
        held, attempt.finished = attempt.finished, False
        self._leave(attempt)
        if held:
            self.world.let_go([attempt.job_id])

    def _leave(self, attempt: Attempt) -> None:
        conn, attempt.conn = attempt.conn, None
        assert conn is not None
        conn.rollback()
        self.world.give_back(conn)

    def resolve(self, attempt: Attempt, *, again: bool) -> None:
        """Ask whether the COMMIT arrived; if it did not, the attempt failed."""
        assert self.line is not None
        world, model = self.world, self.world.model
        _, rows = world.say(
            self.line, world.queries.revoke(worker=attempt.worker, job_id=attempt.job_id, token=attempt.token)
        )
        token = model.revoke(attempt.worker, attempt.job_id, attempt.token)
        assert rows == ([] if token is None else [token]), f"revoked {rows}, by the model {token}"
        self.take([attempt])
        if token is not None:
            verdict = Verdict.RETRY if again else Verdict.DEAD
            self.settle([Outcome(attempt.job_id, token, verdict, cause="commit", error="no answer")])
        else:
            self.counts["succeeded"] += 1

    # -- the lease --

    def beat(self, *, settled: bool = True, look: bool = True) -> bool:
        """Renew the lease and look at the others. False: this worker was declared dead, and has a new id now.

        settled: it was not cut off a moment ago; look: it asks the jobs too.
        """
        assert self.control is not None
        world, model = self.world, self.world.model
        self._lock()
        news = self.counts - self.sent
        state = "draining" if self.draining else "alive"
        now, ((answer, expired, sessionless, due_s, orphaning, _),) = world.say(self.control, world.queries.beat(
            worker=self.id, lease_s=self._lease_s, grace_s=GRACE_S, fresh_s=FRESH_S, lock_key=self.key,
            sleeping=False, state=state, look=look, settled=settled, **{kind: news[kind] for kind in KINDS},
        ))  # fmt: skip
        assert due_s == pytest.approx(world.next_due_s(now) if look else None)
        renewed = world.lease(self.id)
        expected, sweep = model.beat(
            self.id, now=now, lease_s=self._lease_s, renewed=renewed, state=state, settled=settled, look=look
        )
        seen = Sweep(frozenset(expired), frozenset(sessionless), frozenset(orphaning or []))
        assert (answer, seen) == (expected, sweep), f"beat {answer} {seen}, by the model {expected} {sweep}"
        if answer is None:
            self.start_over()
            return False
        model.counts += news
        self.sent = Counter(self.counts)
        self.sweep = sweep
        return True

    def start_over(self) -> None:
        """Declared dead: nothing here counts any more, and the id is not used again."""
        self.crash()
        self._take_identity()
        self.connect()

    def look_after(self) -> tuple[set[str], int]:
        """Do what the last heartbeat saw to be done, unless others did; returns who is buried by it."""
        assert self.control is not None and self.sweep is not None
        world, model = self.world, self.world.model
        sweep, self.sweep = self.sweep, None
        if sweep.sessionless:
            now, _ = world.say(self.control, world.queries.suspect(sorted(sweep.sessionless)))
            model.suspect(sweep.sessionless, now=now)
        buried: dict[str, int] = {}
        if sweep.expired:
            lives = {lease.id: lease for lease in model.leases.values()}
            now, rows = world.say(self.control, world.queries.bury(sorted(sweep.expired), grace_s=GRACE_S))
            buried = {id_: ended for id_, _, ended in rows}
            for id_ in buried:
                lease = lives[id_]
                suspect = lease.suspect_since is not None and now - lease.suspect_since > GRACE_S * SECOND
                assert lease.lease_until < now or suspect, f"buried alive: {lease}"
            assert buried.keys() == model.bury(sweep.expired, now=now)
        return set(buried), 0 if not buried else sum(buried.values())

    def rescue(self, workers: Sequence[str]) -> None:
        """Take back the jobs of dead workers, until nothing is left to take."""
        assert self.control is not None
        while True:
            _, ((returned, ended, *_),) = self.world.say(
                self.control, self.world.queries.rescue(workers, crash_cap=CRASH_CAP)
            )
            expected = self.world.model.rescue(workers)
            assert (returned, ended) == expected, f"rescued {returned}, {ended}, by the model {expected}"
            if not (returned or ended):
                return

    def prune(self) -> None:
        """Forget dead workers without jobs."""
        assert self.line is not None
        now, _ = self.world.say(self.line, self.world.queries.prune())
        self.world.model.prune(now=now)

    def depart(self) -> None:
        """Sign out, and close."""
        assert self.control is not None
        self.world.say(self.control, self.world.queries.depart(worker=self.id))
        self.world.model.depart(self.id)
        conns = self.world.sessions(self.name)
        for conn in conns:
            self.world.give_back(conn)
        self._lose(conns)


def late_hand_back(world: World, conn: psycopg.Connection, worker: str, attempt: Attempt) -> bool:
    """Whether the job was given back, which the model must have expected."""
    statement = world.queries.hand_back(worker=worker, job_id=attempt.job_id, token=attempt.token)
    now, rows = world.say(conn, statement)
    delay = world.model.hand_back(worker, attempt.job_id, attempt.token, now=now)
    told = [] if delay is None else [(attempt.task, pytest.approx(delay / SECOND))]
    assert [tuple(row) for row in rows] == told, f"handed back {rows}, by the model {told}"
    return bool(rows)
