"""What somebody's old snapshot costs: a REPEATABLE READ transaction stays open while jobs come and go by the million.

Nothing that is deleted meanwhile can be cleaned away: tables grow, and each job leaves dead entries in every index that a
claim or a finish reads.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from statistics import mean, median
from typing import TypeVar

from benchmarks.bench import Bench
from benchmarks.claimant import Claimant, claimant
from benchmarks.filling import Filling, beside
from benchmarks.load import load
from pgqueue.bench.measurement import Measurement, Target, at_least, at_most, percentile, typical
from pgqueue.bench.worker import worker

T = TypeVar("T")

RATE = 2_000  # jobs a second: a lot for one application, and a fraction of what a worker can do
SECONDS = 600
LEAST_S = 3  # that are compared: one second may have a lot more than another
WARM_S = 2  # until the worker has learned how fast jobs end
KEPT = at_least(90)  # % of the first rate, at the end

DEAD = 400_000
FEW = 1_000  # jobs that wait behind the dead, and in the schema beside it that has none
LIMIT = 100
ROUNDS = 51
SCHEMA = "pgqueue_clean"
SLOWDOWN = at_most(2)


def measure(bench: Bench, *, rate: int = RATE) -> Iterator[Measurement]:
    bench.empty()
    with _pin(bench):
        yield from _load(bench, rate)
    bench.empty()
    yield from _dead_entries(bench)
    bench.empty()


@contextmanager
def _pin(bench: Bench) -> Iterator[None]:
    """Within the block no row that exists now, or comes later, is cleaned away."""
    with bench.connect() as conn:
        conn.execute("begin isolation level repeatable read")
        conn.execute(bench.query("select from {schema}.job limit 1"))  # takes the snapshot
        yield


# -- ten minutes of load --


def _load(bench: Bench, rate: int) -> Iterator[Measurement]:
    seconds = bench.count(SECONDS, least=10)
    with worker(bench, "-c", "2"):
        with load(bench, rate) as offered:
            time.sleep(seconds)
            deferred = offered()
        left = _waiting(bench)
    each_second = _completed(bench)[WARM_S : seconds - 1]  # the last one is not whole
    part = max(LEAST_S, len(each_second) // 10)
    name = f"pinned, {rate:,} jobs/s for {seconds} s"
    yield typical(f"{name}: completed", each_second, "jobs/s")
    kept = 100 * mean(each_second[-part:]) / mean(each_second[:part])
    yield Measurement(name=f"{name}: last tenth to the first", value=kept, unit="%", target=KEPT)
    yield Measurement(name=f"{name}: deferred", value=deferred, unit="jobs/s")
    yield Measurement(name=f"{name}: left waiting", value=left, unit="jobs")
    for when, waits in _waits_ms(bench, part):
        yield Measurement(name=f"{name}: wait for the start, {when}, p99", value=percentile(waits, 99), unit="ms")


def _waiting(bench: Bench) -> int:
    with bench.connect() as conn:
        ((jobs,),) = conn.execute(bench.query("select count(*) from {schema}.job where state = 'queued'")).fetchall()
    return int(jobs)


def _completed(bench: Bench) -> list[int]:
    """Jobs that ended, in each second since the first did."""
    seconds = bench.query(
        "with ended as ("
        "  select floor(extract(epoch from finished_at - min(finished_at) over ()))::int as second from {schema}.history"
        ") "
        "select count(ended.second) from generate_series(0, (select max(second) from ended)) as clock (second) "
        "left join ended on ended.second = clock.second group by clock.second order by clock.second"
    )
    with bench.connect() as conn:
        return [jobs for (jobs,) in conn.execute(seconds).fetchall()]


def _waits_ms(bench: Bench, seconds: int) -> Iterator[tuple[str, list[float]]]:
    """From its defer to its start, for the jobs of the first seconds (but for the very first) and of the last."""
    span = bench.query("select min(created_at), max(created_at) from {schema}.history")
    waits = bench.query(
        "select 1000 * extract(epoch from started_at - created_at)::float8 from {schema}.history "
        "where created_at between %s and %s"
    )
    with bench.connect() as conn:
        ((first, last),) = conn.execute(span).fetchall()
        length = timedelta(seconds=seconds)
        for when, begin in ("first tenth", first + timedelta(seconds=WARM_S)), ("last tenth", last - length):
            yield when, [wait for (wait,) in conn.execute(waits, [begin, begin + length]).fetchall()]


# -- behind the dead --


def _dead_entries(bench: Bench) -> Iterator[Measurement]:
    dead = bench.count(DEAD, least=FEW)
    with bench.connect() as conn, beside(bench, SCHEMA) as clean, _pin(bench):
        worn, fresh = Filling(conn, bench.app.config.schema), Filling(conn, SCHEMA)
        with claimant(bench, clean.queries) as without, claimant(bench, bench.app.queries) as behind:
            worn.wear(dead)
            for tables in worn, fresh:
                tables.queue(FEW)
                tables.settle()
            yield from _compare(without, behind, f"{dead:,} dead")


def _compare(without: Claimant, behind: Claimant, dead: str) -> Iterator[Measurement]:
    """Looks that take long are made beside the claims and finishes, for a small share of the time; so they have no target."""
    looks = _pairs(lambda each: each.try_ms(each.heads(), rows=1), without, behind)
    yield from _figures(f"look, {dead}", looks, None)
    claims = {each: each.claim(LIMIT) for each in (without, behind)}
    rounds = _pairs(lambda each: each.try_round_ms(claims[each]), without, behind)
    for place, name in enumerate(("claim", "finish")):
        pairs = [(clean[place], worn[place]) for clean, worn in rounds]
        yield from _figures(f"{name} of {LIMIT}, {dead}", pairs, SLOWDOWN)


def _pairs(attempt: Callable[[Claimant], T], without: Claimant, behind: Claimant) -> list[tuple[T, T]]:
    """In turn; the first pair, which warms the caches, does not count."""
    return [(attempt(without), attempt(behind)) for _ in range(ROUNDS + 1)][1:]


def _figures(name: str, pairs: Sequence[tuple[float, float]], target: Target | None) -> Iterator[Measurement]:
    cleans, worns = zip(*pairs, strict=True)
    yield typical(name, worns, "ms")
    yield Measurement(name=f"{name}: to none", value=median(worns) / median(cleans), unit="x", target=target)
