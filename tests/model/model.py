"""What the tables ought to hold, worked out without a database: every method does to the rows what its statement promises.

Times are whole microseconds on the model's clock. Rows under an open transaction stand in `held`: others pass them over.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pgqueue.job import Outcome, State, Verdict
from pgqueue.worker.settings import CRASH_CAP, FRESH_S, GRACE_S
from pgqueue.worker.supervisor.finisher import AFTER

SECOND = 1_000_000
DAY = 86_400 * SECOND
HOUR = 3_600 * SECOND
AHEAD_S = 5  # a heartbeat that far in the future is one from before the clock was set back
PATIENCE_S = 10  # a statement takes less, on the busiest machine
WAITING = ("queued", "scheduled")
LIVE = (*WAITING, "running")


@dataclass
class Job:
    """A job's row, alive or ended. A seq of None was drawn by the step under way: larger than all before."""

    id: str
    task: str
    queue: str
    priority: int
    state: str
    run_at: int
    expires_at: int | None = None
    unique_key: str | None = None
    seq: int | None = None
    token: int = 0
    attempt: int = 0
    crashes: int = 0
    worker: str | None = None
    progress: float | None = None
    cancel: str | None = None
    error: str | None = None
    handed_back_at: int | None = None


@dataclass
class Lease:
    """A worker's row."""

    id: str
    state: str
    heartbeat_at: int
    lease_until: int
    suspect_since: int | None = None
    key: int | None = None
    queues: Sequence[str] | None = None
    code: str | None = None


@dataclass(frozen=True)
class Sweep:
    """What a heartbeat saw of the others."""

    expired: frozenset[str]
    sessionless: frozenset[str]
    orphaning: frozenset[str]


@dataclass
class Model:
    """All rows, and what was promised about them."""

    jobs: dict[str, Job] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    failures: Counter[tuple[str, int, int, str]] = field(default_factory=Counter)
    paused: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    """Rows that atomic jobs wrote, by job."""
    earlier: Counter[str] = field(default_factory=Counter)
    """Those of them that were written before the job was retried by hand."""
    siblings: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    locks: dict[str, int] = field(default_factory=dict)
    """The session locks that are held, by worker; one whose row was pruned may still be connected."""
    accepted: set[tuple[str, int]] = field(default_factory=set)
    top: int = 0
    """The largest seq seen."""

    def of(self, *states: str) -> list[Job]:
        """The jobs in these states that nobody's transaction holds."""
        return [job for job in self.jobs.values() if job.state in states and job.id not in self.held]

    def holder(self, key: str) -> Job | None:
        """The committed live job with this key."""
        return next((job for job in self.jobs.values() if job.unique_key == key and job.state in LIVE), None)

    # -- claim --

    def heads(self, *, queues: Collection[str] | None, unknown: str) -> dict[tuple[str, int], int]:
        """The seq of the first job of each pair that a look finds, even if somebody's transaction holds it."""
        heads: dict[tuple[str, int], int] = {}
        for job in self.jobs.values():
            wanted = job.task != unknown and job.queue not in self.paused and (queues is None or job.queue in queues)
            if job.state == "queued" and wanted:
                assert job.seq is not None
                pair = job.queue, job.priority
                heads[pair] = min(job.seq, heads.get(pair, job.seq))
        return heads

    def claim(self, worker: str, *, cursors: Sequence[tuple[str, int, int]], unknown: str, limit: int) -> list[Job]:
        """The jobs that a claim beyond cursors takes, best first."""
        lease = self.leases.get(worker)
        if lease is None or lease.state != "alive":
            return []
        return [
            job
            for queue, priority, cursor in cursors
            if queue not in self.paused
            for job in sorted(self.of("queued"), key=lambda job: job.seq or 0)
            if (job.queue, job.priority) == (queue, priority) and (job.seq or 0) > cursor and job.task != unknown
        ][:limit]

    def taken(self, worker: str, jobs: Collection[Job]) -> None:
        """The claim of these jobs committed."""
        for job in jobs:
            job.state, job.worker = "running", worker
            job.token += 1
            job.attempt += 1

    # -- the ends of attempts --

    def fenced(self, worker: str, job_id: str, token: int) -> Job | None:
        """The job, if this worker and token hold it."""
        job = self.jobs.get(job_id)
        owned = job is not None and job.state == "running" and job.token == token and job.worker == worker
        return job if owned else None

    def _accept(self, job: Job) -> None:
        assert (job.id, job.token) not in self.accepted, f"two outcomes of one token: {job}"
        self.accepted.add((job.id, job.token))

    def finish(self, worker: str, ids: Sequence[str], tokens: Sequence[int]) -> set[str]:
        """The jobs that count as succeeded."""
        done = set()
        for id_, token in zip(ids, tokens, strict=True):
            if job := self.fenced(worker, id_, token):
                self._accept(job)
                job.state, job.progress = "succeeded", None
                done.add(id_)
        return done

    def settle(self, worker: str, outcomes: Sequence[Outcome], *, now: int) -> dict[str, str]:
        """The state of each job whose attempt counted."""
        settled = {}
        for outcome in outcomes:
            job = self.fenced(worker, outcome.job_id, outcome.token)
            if job is None:
                continue
            self._accept(job)
            state, refund, crash = AFTER[Verdict(outcome.verdict)]
            if outcome.cause is not None:
                self.failures[job.id, job.token, job.attempt, outcome.cause] += 1
            error = outcome.error
            if job.cancel is not None and state != "dead":
                state, error = (State.CANCELLED if state in WAITING else state), job.cancel
            job.attempt -= refund
            job.crashes += crash
            if state in WAITING:
                self._back(job, state, keeps_place=refund == 1)
                if state == "scheduled":
                    job.run_at = now + round(outcome.delay_s * SECOND)
            else:
                self._end(job, state, error)
            settled[job.id] = str(state)
        return settled

    def _back(self, job: Job, state: str, *, keeps_place: bool) -> None:
        job.state, job.worker, job.progress = str(state), None, None
        if not keeps_place:
            job.seq = None

    def _end(self, job: Job, state: str, error: str | None) -> None:
        job.state, job.error, job.progress, job.cancel = str(state), error, None, None

    def progress(self, worker: str, job_id: str, token: int, fraction: float) -> None:
        if job := self.fenced(worker, job_id, token):
            job.progress = fraction

    def revoke(self, worker: str, job_id: str, token: int) -> int | None:
        """The new token, if the attempt had not committed."""
        if job := self.fenced(worker, job_id, token):
            job.token += 1
            return job.token
        return None

    def hand_back(self, worker: str, job_id: str, token: int, *, now: int) -> int | None:
        """How long the job waits for a worker of other code, if there is one that would take it."""
        job = self.fenced(worker, job_id, token)
        if job is None or job.cancel is not None:
            return None
        since = now if job.handed_back_at is None else job.handed_back_at
        mine = self.leases.get(worker)
        others = [
            lease
            for lease in self.leases.values()
            if lease.state == "alive" and lease.lease_until > now and lease.code != (mine and mine.code)
            and (lease.queues is None or job.queue in lease.queues)
        ]  # fmt: skip
        if not others or since <= now - HOUR:
            return None
        delay = min(max(now - since, SECOND), 60 * SECOND)
        self._back(job, "scheduled", keeps_place=True)
        job.run_at, job.handed_back_at = now + delay, since
        job.attempt -= 1
        return delay

    def recorded(self, worker: str, pairs: Sequence[tuple[str, int]]) -> dict[str, str]:
        """Which of these ends stand in history."""
        jobs = [(self.jobs.get(id_), token) for id_, token in pairs]
        return {
            job.id: job.state
            for job, token in jobs
            if job is not None and job.state not in LIVE and job.token == token and job.worker == worker
        }

    # -- leases --

    def register(
        self, worker: str, *, key: int | None, queues: Sequence[str] | None, code: str | None, now: int, lease_s: float
    ) -> None:
        until = now + round(lease_s * SECOND)
        self.leases.setdefault(worker, Lease(worker, "alive", now, until, key=key, queues=queues, code=code))

    def beat(
        self,
        worker: str,
        *,
        now: int,
        lease_s: float,
        renewed: tuple[int, int] | None,
        state: str,
        settled: bool,
        look: bool,
    ) -> tuple[str | None, Sweep]:
        """The state in the answer, and the others as the statement saw them. renewed: the lease as it stands afterwards, of
        a clock that goes on while a statement waits."""
        mine = self.leases.get(worker)
        judge = mine is not None and now - round(FRESH_S * SECOND) <= mine.heartbeat_at <= now - SECOND
        alive = [lease for lease in self.leases.values() if lease.id != worker and lease.state != "dead"]
        free = {lease.id for lease in alive if lease.key is not None and lease.id not in self.locks}
        sweep = Sweep(
            frozenset(
                lease.id
                for lease in alive
                if judge and (lease.lease_until < now or (settled and self._suspect(lease, now) and lease.id in free))
            ),
            frozenset(
                lease.id
                for lease in alive
                if lease.heartbeat_at > now + AHEAD_S * SECOND
                or ((lease.suspect_since is None or lease.suspect_since > now) and lease.id in free)
            ),
            frozenset(
                lease.id for lease in self.leases.values() if look and lease.state == "dead" and self.running(lease.id)
            ),
        )
        if mine is None or mine.state == "dead":
            return None, sweep
        assert renewed is not None, "it was renewed"
        began = renewed[0], renewed[1] - round(lease_s * SECOND)
        assert all(now <= at < now + PATIENCE_S * SECOND for at in began), f"a lease of another length: {renewed}"
        mine.heartbeat_at, mine.lease_until, mine.suspect_since = *renewed, None
        mine.state = state
        return state, sweep

    def _suspect(self, lease: Lease, now: int) -> bool:
        return lease.suspect_since is not None and lease.suspect_since < now - round(GRACE_S * SECOND)

    def running(self, worker: str) -> list[Job]:
        """The committed jobs that the table says this worker runs."""
        return [job for job in self.jobs.values() if job.state == "running" and job.worker == worker]

    def suspect(self, workers: Collection[str], *, now: int) -> None:
        """Whoever is not suspect yet is from now on; a lease from before the clock was set back begins now."""
        for lease in self.leases.values():
            early = lease.suspect_since is None or lease.suspect_since > now or lease.heartbeat_at > now
            if lease.id in workers and lease.state != "dead" and early:
                lease.suspect_since = now
                lease.lease_until = min(lease.lease_until, now + lease.lease_until - lease.heartbeat_at)
                lease.heartbeat_at = min(lease.heartbeat_at, now)

    def bury(self, workers: Collection[str], *, now: int) -> set[str]:
        """Who is dead by this."""
        gone = {
            lease.id
            for lease in self.leases.values()
            if lease.id in workers and lease.state != "dead"
            and (lease.lease_until < now or self._suspect(lease, now))
        }  # fmt: skip
        for id_ in gone:
            self.leases[id_].state = "dead"
        return gone

    def rescue(self, workers: Collection[str]) -> tuple[int, int]:
        """How many jobs were put back, and how many ended."""
        dead = {id_ for id_ in workers if id_ in self.leases and self.leases[id_].state == "dead"}
        orphans = [job for job in self.of("running") if job.worker in dead]
        for job in orphans:
            self.failures[job.id, job.token, job.attempt, "worker lost"] += 1
            job.token += 1
            job.attempt -= 1
            job.crashes += 1
            if job.cancel is not None:
                self._end(job, "cancelled", job.cancel)
            elif job.crashes >= CRASH_CAP:
                self._end(job, "dead", f"quarantined: its worker died {job.crashes} times while running it")
            else:
                self._back(job, "queued", keeps_place=True)
        returned = sum(job.state == "queued" for job in orphans)
        return returned, len(orphans) - returned

    def depart(self, worker: str) -> None:
        if not self.running(worker):
            self.leases.pop(worker, None)

    def prune(self, *, now: int) -> None:
        for lease in list(self.leases.values()):
            if lease.state == "dead" and lease.heartbeat_at < now - DAY and not self.running(lease.id):
                del self.leases[lease.id]

    # -- time and people --

    def promote(self, *, now: int) -> int:
        """How many became runnable."""
        due = [job for job in self.of("scheduled") if job.run_at <= now]
        for job in due:
            job.state, job.seq = "queued", None
        return len(due)

    def cancel(self, job: Job, reason: str) -> bool:
        if job.state == "running":
            job.cancel = reason
        elif job.state in WAITING:
            self._end(job, "cancelled", reason)
        else:
            return False
        return True

    def retry(self, job: Job, *, now: int) -> bool | None:
        """None: another live job has its unique key."""
        if job.state in ("queued", "running"):
            return False
        if job.state == "scheduled":
            job.state, job.run_at, job.seq = "queued", now, None
            return True
        if job.unique_key is not None and self.holder(job.unique_key) is not None:
            return None
        self.earlier[job.id] = self.effects[job.id]
        self.jobs[job.id] = Job(
            job.id, job.task, job.queue, job.priority, "queued", now, unique_key=job.unique_key, token=job.token
        )
        return True

    def purge(self, state: str) -> int:
        return self.forget(self.of(state))

    def forget(self, jobs: Collection[Job]) -> int:
        """These jobs and their failed attempts are deleted."""
        gone = {job.id for job in jobs}
        for id_ in gone:
            del self.jobs[id_]
        for key in [key for key in self.failures if key[0] in gone]:
            del self.failures[key]
        return len(gone)

    # -- against the tables --

    def adopt(self, seqs: Mapping[str, int], *, jobs: Mapping[str, Job] | None = None) -> None:
        """Take over the places that the database drew; they must lie behind all that were there before."""
        drawn = [job for job in (self.jobs if jobs is None else jobs).values() if job.seq is None]
        for job in drawn:
            assert seqs[job.id] > self.top, f"not at the end of the queue: {job}"
        for job in drawn:
            job.seq = seqs[job.id]
        self.top = max((self.top, *(seqs[job.id] for job in drawn)))
