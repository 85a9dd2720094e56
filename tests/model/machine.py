"""Everything that may happen to a queue, in any order: Hypothesis draws the steps, the model says what must come of each.

What Hypothesis draws never depends on the state. The model's clock is the database's, moved: it goes on between two steps, and on a
busy machine so far that in a repetition of the same steps a lease has run out that had not before. Rules with preconditions would
then be drawn from another choice, which Hypothesis takes for an error (FlakyStrategyDefinition). So one number is drawn for each
step: it gives an order to all kinds of steps, of which the first that is possible is taken, and its arguments.

One more number leaves some kinds out of a whole example (swarm testing): where leases do not run out all the time, jobs run long
enough to meet what happens seldom.

Left out: schedules. Limits, keys and order have a machine of their own, gates.py. Left to the fault tests: what waits for
another session (a revoke for a commit under way), since one process drives all parties step by step.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeVar, cast

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pgqueue import DuplicateJob, db
from pgqueue.job import Outcome, Verdict
from tests.model.model import DAY, LIVE, SECOND, WAITING, Job
from tests.model.producers import Order, Producer, enqueue_alone, falls_due, many_keys
from tests.model.stations import Attempt, Station, late_hand_back
from tests.model.world import World

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., None])

QUEUES = ("a", "b")
KEYS = ("k1", "k2")
# The restart of the server, which ends all sessions, is the rare one.
FAULTS = [*["crash", "freeze or thaw", "session ends", "session ends unseen"] * 2, "all sessions end"]
WRITES = ("progress", "finish", "settle", "revoke", "hand back")
ENDED = ("succeeded", "dead", "cancelled")
STATES = (*LIVE, *ENDED)
STATS_EVERY = 5  # steps: it takes as long as ten other checks
ROUNDS = 4  # after healing, until every job has ended

Draw = Sequence[Any] | Callable[[Random], Any]  # an argument of a step: one of these, or what this makes

picks = range(8)  # which of those that there are
many = range(31)
yes_or_no = (False, True)
served = (None, None, ["a"], ["b", "a"])
unknown = ("none", "none", "none", "plain")
verdicts = (Verdict.RETRY, Verdict.SNOOZE, Verdict.RELEASE, Verdict.CRASH, Verdict.DEAD, Verdict.CANCELLED)
ends_of_a_transaction = ("commit", "commit", "roll back", "answer lost", "request lost")


def orders(random: Random) -> Order:
    return Order(
        task=random.choice(["plain", "atomic"]),
        queue=random.choice(QUEUES),
        priority=random.choice([0, 5]),
        delay=random.choice([None, None, None, 3, 7000]),
        expires=random.choice([None, None, None, 10]),
        key=random.choice([None, None, *KEYS]),
        on_duplicate=random.choice(["ignore", "replace", "raise"]),
    )


def ends_of_attempts(random: Random) -> list[tuple[Verdict, float]]:
    """How the first ones of those in hand end, and the seconds until they are tried again."""
    return [(random.choice(verdicts), random.choice([0.0, 0.5, 600.0])) for _ in range(random.randint(1, 3))]


@dataclass(frozen=True)
class Step:
    """Something that may happen, if the state allows it. weight: how often, beside the others."""

    name: str
    drawn: dict[str, Draw]
    is_possible: Callable[["Queue"], Any]
    weight: float

    def arguments(self, random: Random) -> dict[str, Any]:
        """What it takes this time."""
        return {name: draw(random) if callable(draw) else random.choice(draw) for name, draw in self.drawn.items()}


STEPS: list[Step] = []
SEEDS = st.integers(0, 2**32 - 1)  # of what is random in a step


def when(is_possible: Callable[["Queue"], Any]) -> Callable[[F], F]:
    """Above a step that not every state allows."""

    def narrow(function: F) -> F:
        STEPS[-1] = replace(STEPS[-1], is_possible=is_possible)
        return function

    return narrow


def step(weight: float = 1.0, /, **drawn: Draw) -> Callable[[F], F]:
    """Make a method a step that may be drawn."""

    def register(function: F) -> F:
        STEPS.append(Step(function.__name__, drawn, lambda _: True, weight))
        return function

    return register


def swarm(seed: int) -> list[Step]:
    """The kinds of steps of one example: all of them, or as few as two in five."""
    if seed == 0:
        return STEPS  # what Hypothesis shrinks to
    random = Random(seed)
    left_out = random.uniform(0, 0.6)
    return [each for each in STEPS if random.random() >= left_out]


def some(things: Sequence[T], pick: int) -> T:
    """One of them."""
    return things[pick % len(things)]


class Queue(RuleBasedStateMachine):
    """Producers, workers, people, faults and the clock around one queue."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        world.begin()
        self.model = world.model
        self.producers: list[Producer] = []
        self.stations: list[Station] = []
        self.attempts: list[Attempt] = []  # all there ever were
        self.steps = 0
        self.kinds = STEPS

    # -- who there is --

    def up(self, *, idle: bool = True) -> list[Station]:
        """The workers that act; idle: without a claim under way."""
        return [s for s in self.stations if s.is_up and not (idle and s.claiming)]

    def jobs(self, *states: str) -> list[Job]:
        """Jobs that a person can lay hands on without waiting for a transaction."""
        busy = self.busy_keys()
        return [job for job in self.model.of(*states) if job.unique_key is None or job.unique_key not in busy]

    def busy_keys(self, without: Producer | None = None) -> set[str]:
        """The unique keys in others' open transactions, for which an insert would wait."""
        locked = self.model.held - {i for p in self.producers if p is without for f in p.frames for i in f.locked}
        keys = {self.model.jobs[id_].unique_key for id_ in locked}
        keys |= {key for producer in self.producers if producer is not without for key in producer.taken_keys()}
        return {key for key in keys if key is not None}

    def free(self, order: Order, producer: Producer | None = None) -> Order:
        """The order, without its key if an insert would wait for somebody."""
        return order._replace(key=None) if order.key in self.busy_keys(producer) else order

    def in_hand(self, station: Station) -> list[Attempt]:
        """Attempts without a transaction, whose row nobody holds."""
        return [a for a in station.hand if a.conn is None and a.job_id not in self.model.held]

    def holding(self, fits: Callable[[Attempt], bool]) -> list[tuple[Station, Attempt]]:
        """Attempts of workers that act."""
        return [
            (s, a) for s in self.up() for a in s.hand if fits(a) and (a.finished or a.job_id not in self.model.held)
        ]

    # -- producers --

    @initialize(kinds=SEEDS, seed=SEEDS)
    def begin(self, kinds: int, seed: int) -> None:
        self.kinds = swarm(kinds)
        random = Random(seed)
        for _ in range(random.randint(3, 8)):
            enqueue_alone(self.world, orders(random))
            self.world.check()
        taken = random.randint(0, 3)
        for number in range(random.randint(2, 3)):
            knows_not = random.choice(unknown) if number else "none"
            self.start_worker(random.choice(served), knows_not, False, "new" if number else "old")
            if taken:
                self.claims(self.stations[-1], taken, after=False)

    @step(order=orders)
    def enqueue_alone(self, order: Order) -> None:
        enqueue_alone(self.world, self.free(order))

    @when(lambda self: len(self.producers) < 3)
    @step(begins_itself=yes_or_no, order=orders)
    def begin_transaction(self, begins_itself: bool, order: Order) -> None:
        producer = Producer(self.world, begins_itself=begins_itself)
        self.producers.append(producer)
        producer.enqueue(self.free(order, producer), by_name=True)

    @when(lambda self: self.producers)
    @step(pick=picks, order=orders, by_name=yes_or_no)
    def enqueue(self, pick: int, order: Order, by_name: bool) -> None:
        producer = some(self.producers, pick)
        producer.enqueue(self.free(order, producer), by_name=by_name)

    @when(lambda self: len(self.producers) > 1)
    @step(pick=picks, order=orders)
    def enqueue_in_vain(self, pick: int, order: Order) -> None:
        producer = some(self.producers, pick)
        for other in self.producers:
            for key in [job.unique_key for job in other.born() if job.unique_key and other is not producer]:
                producer.enqueue_in_vain(order._replace(key=key))
                return

    @when(lambda self: self.producers)
    @step(pick=picks, order=orders, count=range(1, 6), unique=yes_or_no)
    def enqueue_many(self, pick: int, order: Order, count: int, unique: bool) -> None:
        producer = some(self.producers, pick)
        busy = self.busy_keys(producer) & set(many_keys(order.task, count))
        producer.enqueue_many(order, count, unique=unique and not busy)

    @when(lambda self: self.producers)
    @step(pick=picks, ends=yes_or_no, counts=yes_or_no)
    def savepoint(self, pick: int, ends: bool, counts: bool) -> None:
        producer = some(self.producers, pick)
        if len(producer.frames) == 1 or (len(producer.frames) < 3 and not ends):
            producer.savepoint()
        elif counts:
            producer.release()
        else:
            producer.roll_back_part()

    @when(lambda self: self.producers)
    @step(pick=picks, how=ends_of_a_transaction)
    def end_transaction(self, pick: int, how: str) -> None:
        producer = self.producers.pop(pick % len(self.producers))
        match how:
            case "commit":
                producer.commit()
            case "roll back":
                producer.roll_back()
            case _:
                producer.lose_commit(arrives=how == "answer lost")

    # -- workers come and go --

    @when(lambda self: len(self.stations) < 4)
    @step(queues=served, unknown=unknown, pooled=yes_or_no, code=["old", "new"])
    def start_worker(self, queues: list[str] | None, unknown: str, pooled: bool, code: str | None) -> None:
        station = Station(self.world, queues=queues, unknown=unknown, pooled=pooled, code=code)
        self.stations.append(station)
        station.connect()

    @when(lambda self: any(s.hand for s in self.stations))
    @step(
        pick=picks,
        how=["crash", "freeze", "freeze and write", "freeze and claim"],
        rounds=range(2, 7),
    )
    def vanish_with_jobs(self, pick: int, how: str, rounds: int) -> None:
        """A worker that runs something is not heard for a while, or never again; its line may be heard before its lease."""
        station = some([s for s in self.stations if s.hand], pick)
        if how == "crash":
            self.crash(station)
        station.frozen = True
        self.live_on(rounds)
        station.frozen = False
        if how in ("crash", "freeze") or station.claiming:
            return
        if station.control is None:
            station.connect()
        if how == "freeze and claim":
            self.claims(station, 2, after=False)
        else:
            if plain := [a for a in self.in_hand(station) if a.task == "plain" and not a.expired]:
                station.finish(plain)
            if others := [a for a in self.in_hand(station) if not a.finished]:
                station.settle([station.outcome(a, Verdict.RETRY, delay_s=1.0) for a in others])

    @when(lambda self: self.stations)
    @step(pick=picks, kind=FAULTS)
    def fault(self, pick: int, kind: str) -> None:
        station = some(self.stations, pick)
        match kind:
            case "crash":
                self.crash(station)
            case "freeze or thaw":
                station.frozen = not station.frozen
            case "all sessions end":
                self.end_all_sessions()
            case _ if station.ghosts:
                station.reap()
            case _ if station.control is not None:
                station.lose_control(unseen=kind == "session ends unseen")

    @when(lambda self: any(s.control is None and not s.frozen for s in self.stations))
    @step(2, pick=picks, beats=yes_or_no)
    def reconnect(self, pick: int, beats: bool) -> None:
        """Without a beat its line may still write what it has before it hears that it was declared dead."""
        station = some([s for s in self.stations if s.control is None and not s.frozen], pick)
        station.connect()
        if beats:
            self.beats(station)

    def crash(self, station: Station) -> None:
        """Its process is gone; as things are set up, another one starts in its place."""
        self.stations.remove(station)
        station.crash()
        self.start_worker(station.queues, station.unknown, station.pooled, station.code)

    @when(lambda self: self.up())
    @step(pick=picks, replaced=yes_or_no, last_words=yes_or_no)
    def stop_politely(self, pick: int, replaced: bool, last_words: bool) -> None:
        """What it could not write back in time is left to others."""
        station = some(self.up(), pick)
        if self.in_hand(station) == station.hand:
            self.stations.remove(station)
            self.stop(station, last_words=last_words)
            if replaced or len(self.stations) < 2:
                self.start_worker(station.queues, station.unknown, station.pooled, station.code)

    def stop(self, station: Station, *, last_words: bool = True) -> None:
        """Give back what is in hand, and sign out."""
        station.draining = True
        if last_words:
            self.give_back(station)
        station.beat()  # if it was declared dead, it departs under its new id
        station.depart()

    def give_back(self, station: Station) -> None:
        """Settle everything that is in hand."""
        if released := [Outcome(a.job_id, a.token, Verdict.RELEASE) for a in station.hand if not a.finished]:
            station.settle(released)
        for attempt in list(station.hand):
            station.resolve(attempt, again=True)

    def end_all_sessions(self) -> None:
        """As a restart of the server does."""
        for station in self.stations:
            self.world.terminate(*self.world.sessions(station.name))
            station.lose_all()
        while self.producers:
            self.producers.pop().break_off()

    # -- jobs run --

    @when(lambda self: self.up())
    @step(2, pick=picks, limit=range(1, 5), after=yes_or_no)
    def claim(self, pick: int, limit: int, after: bool) -> None:
        self.claims(some(self.up(), pick), limit, after=after)

    def claims(self, station: Station, limit: int, *, after: bool) -> None:
        station.claim(limit, after=after)
        self.attempts += station.commit_claim()

    @when(lambda self: self.up())
    @step(pick=picks, limit=range(1, 5), after=yes_or_no)
    def begin_claim(self, pick: int, limit: int, after: bool) -> None:
        station = some(self.up(), pick)
        station.claim(limit, after=after)
        if not station.claiming:
            station.commit_claim()

    @when(lambda self: self.claiming())
    @step(3, pick=picks, how=["commits", "commits", "answer lost", "request lost"])
    def end_claim(self, pick: int, how: str) -> None:
        station = some(self.claiming(), pick)
        if how == "request lost":
            station.lose_claim()
        else:
            self.attempts += station.commit_claim(answered=how == "commits")

    def claiming(self) -> list[Station]:
        """Workers in the midst of a claim."""
        return [s for s in self.stations if s.claiming and not s.frozen]

    @when(lambda self: any(self.in_hand(s) for s in self.up()))
    @step(2, pick=picks, count=range(1, 4), answered=yes_or_no)
    def finish(self, pick: int, count: int, answered: bool) -> None:
        station = some([s for s in self.up() if self.in_hand(s)], pick)
        plain = [a for a in self.in_hand(station) if a.task == "plain" and not a.expired][:count]
        if plain:
            station.finish(plain, answered=answered)

    @when(lambda self: any(self.in_hand(s) for s in self.up()))
    @step(2, pick=picks, ends=ends_of_attempts)
    def settle(self, pick: int, ends: list[tuple[Verdict, float]]) -> None:
        station = some([s for s in self.up() if self.in_hand(s)], pick)
        pairs = zip([a for a in self.in_hand(station) if not a.finished], ends, strict=False)
        outcomes = [station.outcome(attempt, verdict, delay_s=delay_s) for attempt, (verdict, delay_s) in pairs]
        if outcomes:
            station.settle(outcomes)

    @when(lambda self: any(self.in_hand(s) for s in self.up()))
    @step(pick=picks, crashed=yes_or_no, other=picks)
    def claim_again(self, pick: int, crashed: bool, other: int) -> None:
        """A job comes back and is claimed at once, by the same worker or another."""
        station = some([s for s in self.up() if self.in_hand(s)], pick)
        attempt = self.in_hand(station)[0]
        if not attempt.finished:
            verdict = Verdict.CRASH if crashed else Verdict.RELEASE
            station.settle([station.outcome(attempt, verdict, delay_s=0)])
            self.claims(some(self.up(), other), 4, after=False)

    @when(lambda self: any(self.in_hand(s) for s in self.up()))
    @step(2, pick=picks, verdict=[Verdict.RETRY, Verdict.DEAD])
    def misfit(self, pick: int, verdict: Verdict) -> None:
        """A worker whose code does not take a job's arguments."""
        station = some([s for s in self.up() if self.in_hand(s)], pick)
        attempt = some(self.in_hand(station), pick)
        if not attempt.finished and not station.hand_back(attempt):
            station.settle([station.outcome(attempt, verdict, delay_s=1)])

    @when(lambda self: any(self.in_hand(s) for s in self.up()))
    @step(pick=picks, fraction=[0.25, 0.5])
    def progress(self, pick: int, fraction: float) -> None:
        station = some([s for s in self.up() if self.in_hand(s)], pick)
        station.progress(some(self.in_hand(station), pick), fraction)

    @when(lambda self: self.waiting_atomic())
    @step(3, pick=picks, ends=yes_or_no, how=ends_of_a_transaction)
    def run_atomic(self, pick: int, ends: bool, how: str) -> None:
        """A whole atomic task, or only its beginning."""
        station, attempt = some(self.waiting_atomic(), pick)
        station.begin_atomic(attempt)
        if ends:
            self.end_atomic(station, attempt, how)

    def waiting_atomic(self) -> list[tuple[Station, Attempt]]:
        return self.holding(lambda a: a.task == "atomic" and a.conn is None and not a.finished and not a.expired)

    @when(lambda self: self.holding(lambda a: a.conn is not None))
    @step(3, pick=picks, how=("finish", *ends_of_a_transaction))
    def go_on_with_atomic(self, pick: int, how: str) -> None:
        """The next step of an atomic task that has begun."""
        station, attempt = some(self.holding(lambda a: a.conn is not None), pick)
        if how == "finish" and not attempt.finished:
            station.finish_atomic(attempt)
        else:
            self.end_atomic(station, attempt, how)

    def end_atomic(self, station: Station, attempt: Attempt, how: str) -> None:
        """The task returns or raises, and its transaction ends."""
        if how == "roll back":
            station.roll_back(attempt)
            return
        if not attempt.finished:
            station.finish_atomic(attempt)
        if not attempt.finished:
            return  # it was replaced meanwhile
        if how in ("answer lost", "request lost"):
            station.lose_commit(attempt, arrives=how == "answer lost")
        else:
            station.commit_atomic(attempt)

    @when(lambda self: self.unsure())
    @step(4, pick=picks, again=yes_or_no)
    def resolve(self, pick: int, again: bool) -> None:
        station, attempt = some(self.unsure(), pick)
        station.resolve(attempt, again=again)

    def unsure(self) -> list[tuple[Station, Attempt]]:
        return self.holding(lambda a: a.conn is None and a.finished and a.job_id not in self.model.held)

    @when(lambda self: self.attempts)
    @step(2, pick=many, verdict=verdicts, kind=WRITES, runs=yes_or_no)
    def write_late(self, pick: int, verdict: Verdict, kind: str, runs: bool) -> None:
        """What one of all attempts there ever were has sent arrives, perhaps again; runs: rather one that counts."""
        running = [a for a in self.attempts if runs and self.model.fenced(a.worker, a.job_id, a.token)]
        attempt = some(running or self.attempts, pick)
        if attempt.job_id not in self.model.held:
            self.late(attempt, verdict, kind)

    @when(lambda self: self.replaced())
    @step(4, pick=many, verdict=verdicts)
    def write_as_if_not_replaced(self, pick: int, verdict: Verdict) -> None:
        """Everything that somebody may send who does not know that the job runs elsewhere, or again."""
        attempt = some(self.replaced(), pick)
        if attempt.job_id not in self.model.held:
            for kind in WRITES:
                self.late(attempt, verdict, kind)

    def replaced(self) -> list[Attempt]:
        """Attempts at jobs that run for somebody else, or for the second time."""
        running = {job.id: job for job in self.model.of("running")}
        return [
            attempt
            for attempt in self.attempts
            if (job := running.get(attempt.job_id)) and (job.token, job.worker) != (attempt.token, attempt.worker)
        ]

    def late(self, attempt: Attempt, verdict: Verdict, kind: str) -> None:
        world, worker, id_, token = self.world, attempt.worker, attempt.job_id, attempt.token
        queries = world.queries
        match kind:
            case "finish":
                world.now(world.eye)
                world.eye.execute("insert into shop.effect values (%s, %s)", [id_, token])
                rows = db.run(world.eye, queries.finish(worker=worker, ids=[id_], tokens=[token], results=["null"]))
                world.eye.execute("commit" if rows and attempt.task == "atomic" else "rollback")
                if rows and attempt.task == "plain":
                    _, rows = world.say(
                        world.eye, queries.finish(worker=worker, ids=[id_], tokens=[token], results=["null"])
                    )
                done = self.model.finish(worker, [id_], [token])
                assert {row[0] for row in rows} == done, f"a late finish: {rows}, by the model {done}"
                self.model.effects[id_] += attempt.task == "atomic" and bool(done)
            case "settle":
                outcome = Outcome(id_, token, verdict, cause="exception", error="late")
                columns = Station.columns([outcome])
                now, ended = world.say(world.eye, queries.settle(worker=worker, worker_name="late", columns=columns))
                settled = self.model.settle(worker, [outcome], now=now)
                assert {row.id: row.state for row in ended} == settled, f"settled late: {ended}, by the model {settled}"
            case "progress":
                world.say(world.eye, queries.progress(
                    worker=worker, ids=[id_], tokens=[token], fractions=[0.75], notes=[None]
                ))  # fmt: skip
                self.model.progress(worker, id_, token, 0.75)
            case "revoke":
                _, tokens = world.say(world.eye, queries.revoke(worker=worker, job_id=id_, token=token))
                token_now = self.model.revoke(worker, id_, token)
                assert tokens == ([] if token_now is None else [token_now])
            case "hand back":
                late_hand_back(world, world.eye, worker, attempt)

    # -- leases and time --

    @when(lambda self: self.up(idle=False))
    @step(pick=picks, at_once=yes_or_no, settled=yes_or_no, look=yes_or_no)
    def beat(self, pick: int, at_once: bool, settled: bool, look: bool) -> None:
        station = some(self.up(idle=False), pick)
        if station.beat(settled=settled, look=look) and at_once:
            self.sweep(station)

    @when(lambda self: any(s.sweep for s in self.up(idle=False)))
    @step(2, pick=picks)
    def look_after(self, pick: int) -> None:
        self.sweep(some([s for s in self.up(idle=False) if s.sweep], pick))

    def beats(self, station: Station) -> None:
        """A heartbeat, and what it shows to be done."""
        if station.beat():
            self.sweep(station)

    def sweep(self, station: Station) -> None:
        """Suspect, bury, rescue; afterwards nobody who is dead by the rule runs a job."""
        assert station.sweep is not None
        suspects = station.sweep.expired | station.sweep.orphaning
        buried, ended = station.look_after()
        gone = sum(other.was_buried() for other in self.stations if other.id in buried)
        assert ended == gone, f"{ended} sessions were ended, there were {gone}"
        if suspects:
            station.rescue(sorted(suspects))
        dead = {lease.id for lease in self.model.leases.values() if lease.state == "dead"} & suspects
        assert not [job for job in self.model.of("running") if job.worker in dead], "a dead worker runs jobs"

    @step(seconds=[0.1, 1.2, 2.0, 3.0, 6.0, 16.0, 7000.0, DAY / SECOND, -0.5, -8.0])
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @step(0.5, rounds=range(1, 6))
    def live_on(self, rounds: int) -> None:
        """Some seconds in which all who can do beat."""
        for _ in range(rounds):
            self.world.pass_time(4.0)
            for station in list(self.stations):
                if station.control is None and not station.frozen:
                    station.connect()
                if station.is_up:
                    self.beats(station)

    @when(lambda self: len(self.up(idle=False)) > 1)
    @step(0.5, pick=picks)
    def come_back_just_in_time(self, pick: int) -> None:
        """Leases have run out, one of those who live sees it, and the others are heard before it acts."""
        judge = some(self.up(idle=False), pick)
        self.world.pass_time(16.0)
        if judge.beat():
            self.world.pass_time(2.0)
        if judge.beat():
            for other in [s for s in self.up(idle=False) if s is not judge]:
                other.beat()
            self.sweep(judge)

    @when(lambda self: self.up(idle=False))
    @step(pick=picks)
    def set_the_clock_back(self, pick: int) -> None:
        """And one worker is heard before the others, whose heartbeats are in the future now."""
        self.world.pass_time(-8.0)
        self.beats(some(self.up(idle=False), pick))

    @when(lambda self: self.up() and any(job.cancel is None for job in self.jobs("running")))
    @step(pick=many, other=picks)
    def fail_over(self, pick: int, other: int) -> None:
        """To a standby that has not seen the claim of a job: its token is given once more, and only the worker differs."""
        job = some([job for job in self.jobs("running") if job.cancel is None], pick)
        job.state, job.worker, job.progress = "queued", None, None
        job.token -= 1
        job.attempt -= 1
        self.world.eye.execute(
            "update pgqueue.job set state = 'queued', worker = null, progress = null, progress_note = null, "
            f"claim_token = claim_token - 1, attempt = attempt - 1 where id = '{job.id}'"
        )
        self.claims(some(self.up(), other), 4, after=False)

    @when(lambda self: self.up())
    @step(pick=picks, kind=["promote", "promote", "compare", "prune"])
    def chore(self, pick: int, kind: str) -> None:
        station = some(self.up(), pick)
        match kind:
            case "promote":
                self.promotes(station)
            case "compare" if not any(job.id in self.model.held for job in self.model.running(station.id)):
                station.compare()
            case "prune":
                station.prune()

    def promotes(self, station: Station) -> None:
        assert station.line is not None
        world = self.world
        now, ((promoted, due_s, *_),) = world.say(station.line, world.queries.promote(worker=station.id))
        expected = self.model.promote(now=now)
        assert promoted == expected, f"{promoted} jobs were made runnable, by the model {expected}"
        assert due_s == pytest.approx(world.next_due_s(now))

    # -- people --

    @when(lambda self: self.jobs(*STATES))
    @step(pick=many, runs=yes_or_no)
    def cancel(self, pick: int, runs: bool) -> None:
        """runs: rather one that runs, as what others do to it must heed that it was cancelled."""
        job = some((runs and self.jobs("running")) or self.jobs(*STATES), pick)
        with self.world.using():
            assert self.world.app.cancel(job.id, reason="enough") == self.model.cancel(job, "enough")

    @when(lambda self: self.jobs(*STATES))
    @step(pick=many)
    def retry(self, pick: int) -> None:
        job = some(self.jobs(*STATES), pick)
        with self.world.using() as now:
            expected = self.model.retry(job, now=now)
            try:
                assert self.world.app.retry(job.id) == expected
            except DuplicateJob:
                assert expected is None, "refused, but nobody has the key"
            if expected:  # counted from the statement
                due = falls_due(self.world.eye, job.id) + self.world.offset
                assert now <= due <= self.world.clock()
                self.model.jobs[job.id].run_at = due

    @step(0.5, queue=QUEUES, claim=yes_or_no)
    def pause_or_resume(self, queue: str, claim: bool) -> None:
        self.pauses_or_resumes(queue)
        for station in self.up() if claim else ():
            self.claims(station, 2, after=True)

    def pauses_or_resumes(self, queue: str) -> None:
        with self.world.using():
            if queue in self.model.paused:
                assert self.world.app.resume(queue)
                self.model.paused.remove(queue)
            else:
                assert not self.world.app.resume(queue)
                self.world.app.pause(queue)
                self.model.paused.add(queue)

    @when(lambda self: self.jobs("queued", "running"))
    @step(
        0.5,
        pick=many,
        kind=["priority", "priority", "priority", "delete", "purge"],
        priority=[0, 9],
    )
    def edit(self, pick: int, kind: str, priority: int) -> None:
        """Somebody changes what waits, or deletes a row that runs, in psql."""
        job = some(self.jobs("queued", "running"), pick)
        if kind == "purge":
            self.purges(some([*WAITING, *ENDED], pick))
        elif job.state == "queued":
            self.world.eye.execute("update pgqueue.job set priority = %s where id = %s", [priority, job.id])
            job.priority = priority
        elif kind == "delete":
            self.world.eye.execute(
                f"delete from pgqueue.job where id = '{job.id}'; delete from pgqueue.attempt where job_id = '{job.id}'"
            )
            self.model.forget([job])

    def purges(self, state: str) -> None:
        with self.world.using():
            assert self.world.app.purge(state=state) == self.model.purge(state)

    # -- which of all that --

    @rule(seed=SEEDS)
    def happen(self, seed: int) -> None:
        name, arguments = self.choose(seed)
        hypothesis.note(f"    # {name}(**{arguments})")
        getattr(self, name)(**arguments)

    def choose(self, seed: int) -> tuple[str, dict[str, Any]]:
        """The first possible step in an order that the seed gives to them all, and its arguments."""
        random = Random(seed)
        places = {each.name: random.random() ** (1 / each.weight) for each in STEPS}
        for kinds in (self.kinds, STEPS):
            if possible := [each for each in kinds if each.is_possible(self)]:
                first = max(possible, key=lambda each: places[each.name])
                return first.name, first.arguments(random)
        raise AssertionError("nothing is possible")

    # -- what always holds --

    @invariant()
    def tables_equal_the_model(self) -> None:
        self.world.check()
        self.steps += 1
        if self.steps % STATS_EVERY == 0:
            self.world.check_stats()

    # -- the end --

    def teardown(self) -> None:
        """Heal everything: each committed job ends within a few rounds, and a purge leaves nothing."""
        if sys.exc_info()[0] is not None:
            return  # a step failed: there is nothing to add, and the next example begins with new sessions
        self.heal()
        healer = Station(self.world, queues=None, unknown="none", pooled=False)
        healer.connect()
        self.bury_all(healer)
        for _ in range(ROUNDS):
            if not any(job.state in LIVE for job in self.model.jobs.values()):
                break
            self.work_off(healer)
        left = [job for job in self.model.jobs.values() if job.state in LIVE]
        assert not left, f"after {ROUNDS} rounds there are still {left}"
        healer.beat()
        self.world.check()
        self.world.check_stats()
        for state in ENDED:
            self.purges(state)
        healer.depart()
        self.world.check()
        assert not self.model.jobs and not self.model.failures

    def heal(self) -> None:
        """No transaction stays open, no queue paused, and every worker that lives stops politely."""
        while self.producers:
            self.producers.pop().commit()
        for queue in list(self.model.paused):
            self.pauses_or_resumes(queue)
        for station in self.stations:
            station.frozen = False
            if station.control is None:
                station.connect()
            if station.claiming:
                station.commit_claim()
            for attempt in [a for a in station.hand if a.conn is not None]:
                station.roll_back(attempt)
            if station.beat():
                station.compare()
            self.stop(station)
            self.world.check()
        self.stations.clear()

    def bury_all(self, healer: Station) -> None:
        """Time goes by until every lease but the healer's has run out."""
        for seconds in (40.0, 1.2, 1.2):
            self.world.pass_time(seconds)
            self.beats(healer)
            self.world.check()

    def work_off(self, station: Station) -> None:
        """Run everything that is or falls due in two hours."""
        self.world.pass_time(7200.0)
        self.promotes(station)
        self.world.check()
        station.claim(1000, after=False)
        station.commit_claim()
        for attempt in [a for a in station.hand if a.task == "atomic" and not a.expired]:
            station.begin_atomic(attempt)
            station.finish_atomic(attempt)
            station.commit_atomic(attempt)
        expired = [a for a in station.hand if a.expired]
        if expired:
            station.settle([station.outcome(a, Verdict.CANCELLED, delay_s=0) for a in expired])
        if station.hand:
            station.finish(station.hand)


def run_machine(world: World, *, settings: hypothesis.settings, machine: type[Queue] = Queue) -> None:
    """Run examples until one fails."""
    generous = hypothesis.settings(settings, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    run_state_machine_as_test(cast("type[Queue]", lambda: machine(world)), settings=generous)
