"""A producer: one open transaction in which jobs are enqueued, each beside a row of the producer's own."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import psycopg
import pytest

from pgqueue import DuplicateJob
from pgqueue.client.enqueue import unique_key
from tests.model.model import LIVE, SECOND, WAITING, Job
from tests.model.world import World


class Order(NamedTuple):
    """What somebody enqueues: the task and the options of one call."""

    task: str
    queue: str
    priority: int
    delay: int | None
    expires: int | None
    key: str | None
    on_duplicate: str

    def options(self) -> dict[str, Any]:
        unique = {"unique": self.key, "on_duplicate": self.on_duplicate} if self.key else {}
        chosen = {"queue": self.queue, "priority": self.priority, "delay": self.delay, "expires": self.expires}
        return {name: value for name, value in (chosen | unique).items() if value is not None}

    def job(self, id_: str, *, key: str | None, now: int) -> Job:
        """The row that comes of it."""
        return Job(
            id_, self.task, self.queue, self.priority, "scheduled" if self.delay else "queued",
            now + (self.delay or 0) * SECOND,
            expires_at=None if self.expires is None else now + self.expires * SECOND,
            unique_key=key,
        )  # fmt: skip


@dataclass
class Frame:
    """What a transaction, or its part since a savepoint, has written and locked."""

    jobs: dict[str, Job] = field(default_factory=dict)
    siblings: set[str] = field(default_factory=set)
    locked: set[str] = field(default_factory=set)
    since: dict[str, int] = field(default_factory=dict)
    """Of each job the world's offset when it was written: the times in its row are from then."""


class Producer:
    """One transaction, its savepoints, and what the model will be if it commits."""

    def __init__(self, world: World, *, begins_itself: bool) -> None:
        self.world = world
        self.conn = world.session("producer")
        self.conn.autocommit = False
        self.frames = [Frame()]
        # Or else the library's first statement begins the transaction.
        self.now = world.opened(self.conn) if begins_itself else None

    def _begun(self) -> int:
        if self.now is None:
            self.now = self.world.opened(self.conn)
        return self.now

    def born(self) -> list[Job]:
        """Its jobs that nobody else sees."""
        return [job for frame in self.frames for job in frame.jobs.values() if job.id not in self.world.model.jobs]

    def taken_keys(self) -> set[str]:
        """The unique keys that others must wait for."""
        return {job.unique_key for frame in self.frames for job in frame.jobs.values() if job.unique_key}

    def _see(self, job_id: str) -> Job | None:
        """The row as this transaction sees it."""
        return next((frame.jobs[job_id] for frame in reversed(self.frames) if job_id in frame.jobs),
                    self.world.model.jobs.get(job_id))  # fmt: skip

    def _holder(self, key: str) -> Job | None:
        seen = {id_ for frame in self.frames for id_ in frame.jobs}
        mine = [job for id_ in seen if (job := self._see(id_)) and job.unique_key == key]
        return mine[0] if mine else self.world.model.holder(key)

    # -- enqueue --

    def enqueue(self, order: Order, *, by_name: bool) -> None:
        """One job, if its key is free, or else what on_duplicate says."""
        world, before = self.world, self.world.clock()
        try:
            if by_name:
                job = world.app.enqueue(order.task, [1], conn=self.conn, **order.options())
            else:
                job = world.tasks[order.task].options(conn=self.conn, **order.options()).defer(1)
        except DuplicateJob as refused:
            self._begun()
            assert order.on_duplicate == "raise" and order.key is not None
            holder = self._holder(order.key)
            assert holder is not None and holder.id == refused.job_id
            return
        self._begun()
        self._expect([(job.id, job.created, order.key)], order, after=before)

    def enqueue_many(self, order: Order, count: int, *, unique: bool) -> None:
        """Several jobs of one task, all or none; unique=True makes the keys of the arguments, two of which are equal."""
        calls = [(n // 2,) for n in range(count)]
        options = order._replace(key=None).options()
        if unique:
            options |= {"unique": True, "on_duplicate": order.on_duplicate}
        before = self.world.clock()
        try:
            jobs = self.world.tasks[order.task].options(conn=self.conn, **options).defer_many(calls)
        except DuplicateJob:
            self._begun()
            assert unique and order.on_duplicate == "raise"
            assert any(self._holder(key) for key in many_keys(order.task, count)) or count > 1
            return
        self._begun()
        keys = many_keys(order.task, count) if unique else [None] * count
        self._expect([(job.id, job.created, key) for job, key in zip(jobs, keys, strict=True)], order, after=before)
        if not unique:
            seqs = [self.frames[-1].jobs[job.id].seq or 0 for job in jobs]
            assert seqs == sorted(seqs), "not in the order of the calls"

    def enqueue_in_vain(self, order: Order) -> None:
        """A key that another open transaction has inserted: the insert waits for that one's end, here until it gives up."""
        self._begun()
        self.conn.execute("savepoint vain; set local lock_timeout = '5ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            self.world.app.enqueue(order.task, [1], conn=self.conn, **order.options())
        self.conn.execute("rollback to savepoint vain; release savepoint vain")

    def _expect(self, placed: Iterable[tuple[str, bool, str | None]], order: Order, *, after: int) -> None:
        """Write into the model what the calls did, and compare what they answered. after: the clock before them."""
        frame, before = self.frames[-1], self.world.clock()
        born: dict[str, Job] = {}
        for id_, created, key in placed:
            holder = None if key is None else self._holder(key)
            if holder is None or holder.id in born:
                assert created == (id_ not in born), "found, but nobody had the key"
                now = self._said_at(id_, order)
                assert after <= now <= before, "it counts from the transaction's begin, or from nowhere"
                born[id_] = frame.jobs[id_] = order.job(id_, key=key, now=now)
                continue
            assert (id_, created) == (holder.id, False), f"two jobs for the key {key}"
            if order.on_duplicate == "replace":
                self._replace(holder, order)
        for id_ in born:
            self.conn.execute("insert into shop.sibling values (%s)", [id_])
            frame.siblings.add(id_)
        ids = [job.id for job in frame.jobs.values() if job.seq is None]
        seen = self.conn.execute("select id::text, seq from pgqueue.job where id = any (%s::uuid[])", [ids]).fetchall()
        self.world.model.adopt(dict(seen), jobs=frame.jobs)

    def _said_at(self, id_: str, order: Order) -> int:
        """When the statement came by which the job got its times."""
        self.frames[-1].since[id_] = self.world.offset
        return falls_due(self.conn, id_) + self.world.offset - (order.delay or 0) * SECOND

    def _replace(self, holder: Job, order: Order) -> None:
        """The holder gets this call's options if it waits; its row is locked even if it does not."""
        frame = self.frames[-1]
        if holder.id in self.world.model.jobs and not any(holder.id in other.locked for other in self.frames):
            frame.locked.add(holder.id)
            self.world.hold([holder.id])
        if holder.state in WAITING:
            fresh = order.job(holder.id, key=holder.unique_key, now=self._said_at(holder.id, order))
            frame.jobs[holder.id] = replace(
                fresh, token=holder.token, attempt=holder.attempt, crashes=holder.crashes, cancel=holder.cancel
            )

    # -- savepoints --

    def savepoint(self) -> None:
        self._begun()
        self.conn.execute(f"savepoint part_{len(self.frames)}")
        self.frames.append(Frame())

    def release(self) -> None:
        """The part belongs to the whole from now on."""
        part = self.frames.pop()
        self.conn.execute(f"release savepoint part_{len(self.frames)}")
        whole = self.frames[-1]
        whole.jobs |= part.jobs
        whole.siblings |= part.siblings
        whole.locked |= part.locked
        whole.since |= part.since

    def roll_back_part(self) -> None:
        """The part never was."""
        part = self.frames.pop()
        self.conn.execute(f"rollback to savepoint part_{len(self.frames)}")
        self.conn.execute(f"release savepoint part_{len(self.frames)}")
        self.world.let_go(part.locked)

    # -- the end --

    def commit(self) -> None:
        self._before_commit()
        self.conn.commit()
        self._committed()
        self.world.give_back(self.conn)

    def roll_back(self) -> None:
        self.conn.rollback()
        self._rolled_back()
        self.world.give_back(self.conn)

    def break_off(self) -> None:
        """The server ends the session."""
        self.world.terminate(self.conn)
        self._rolled_back()

    def lose_commit(self, *, arrives: bool) -> None:
        """The answer to COMMIT never comes. What happened is seen by the siblings; the jobs are there exactly if they are."""
        self._before_commit()
        self.world.cut(self.conn, sent="commit" if arrives else None)
        mine = {id_ for frame in self.frames for id_ in frame.siblings}
        there = self.world.eye.execute(
            "select count(*) from shop.sibling where job_id = any (%s::uuid[])", [list(mine)]
        )
        assert there.fetchone() == (len(mine) if arrives else 0,), "not all or nothing"
        if arrives:
            self._committed()
        else:
            self._rolled_back()

    def _before_commit(self) -> None:
        while len(self.frames) > 1:
            self.release()
        for id_, since in self.frames[0].since.items():
            self.world.catch_up([id_], since=since, conn=self.conn)

    def _committed(self) -> None:
        (whole,) = self.frames
        self.world.model.jobs |= whole.jobs
        self.world.model.siblings |= whole.siblings
        self.world.let_go(whole.locked, written=whole.jobs)

    def _rolled_back(self) -> None:
        for frame in self.frames:
            self.world.let_go(frame.locked)


def many_keys(task: str, count: int) -> list[str]:
    """The keys of `enqueue_many`."""
    return [unique_key(True, task=task, call=(f"[{n // 2}]", "{}")) or "" for n in range(count)]


def falls_due(conn: psycopg.Connection, job_id: str) -> int:
    """When, on the server's clock."""
    due = "select (extract(epoch from run_at) * 1000000)::bigint from pgqueue.job where id = %s"
    ((at,),) = conn.execute(due, [job_id]).fetchall()
    return int(at)


def enqueue_alone(world: World, order: Order) -> None:
    """One job by itself, on a connection of the library's own."""
    model = world.model
    holder = model.holder(order.key) if order.key else None
    try:
        placed = world.app.enqueue(order.task, [1], **order.options())
    except DuplicateJob:
        assert holder is not None and order.on_duplicate == "raise"
        return
    assert placed.created == (holder is None)
    if holder is not None:
        assert placed.id == holder.id and holder.state in LIVE
        if order.on_duplicate != "replace" or holder.state not in WAITING:
            return
    # When the statement came is not known here; the time at which it falls due tells it, and has been compared where it is known.
    now = falls_due(world.eye, placed.id) + world.offset - (order.delay or 0) * SECOND
    job = order.job(placed.id, key=order.key, now=now)
    if holder is not None:
        job = replace(job, token=holder.token, attempt=holder.attempt, crashes=holder.crashes)
    model.jobs[job.id] = job
