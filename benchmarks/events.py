"""Events: how soon a handler starts on an idle system, beside a plain job; and a page out of the midst of a very large transaction.

Event and job take turns in one worker, at times that are too far apart for it to be awake still.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks import handlers
from benchmarks.bench import Bench
from pgqueue import db
from pgqueue.bench import latency
from pgqueue.bench.measurement import Measurement, at_most, percentile, typical
from pgqueue.bench.worker import worker
from pgqueue.events.scroll import make_tick
from pgqueue.events.subscription import Subscription, declare
from pgqueue.job import new_id

TURNS = 60
IDLE_S = (0.3, 0.4)
END_S = 30.0
MANY = 1_000_000
PAGE = 500
PAGES = 200
RETURNED = "select result from {schema}.jobs where task like '%.monotonic_ns_of_event' and state = 'succeeded'"
FILL = "insert into {schema}.event (id, type) select gen_random_uuid(), 'bench.many' from generate_series(1, %s)"


def measure(bench: Bench) -> Iterator[Measurement]:
    plain, ours = zip(*(_turns(bench, bench.count(TURNS, least=5)) for _ in range(bench.repeat)), strict=True)
    yield from latency.figures("idle, a plain job", plain, latency.NONE)
    yield from latency.figures("idle, a handler of events", ours, latency.NONE)
    ratios = [percentile(handled, 50) / percentile(jobs, 50) for handled, jobs in zip(ours, plain, strict=True)]
    yield typical("idle, a handler beside a plain job, p50", ratios, "x", at_most(1.5))
    yield typical(f"a page of {PAGE} from the midst of one transaction", _pages_ms(bench), "ms", at_most(5))


def _turns(bench: Bench, turns: int) -> tuple[list[float], list[float]]:
    bench.empty()
    task = bench.task("monotonic_ns")
    due_ns: dict[str, int] = {}
    with worker(replace(bench, tasks=handlers.__name__), "-c", str(bench.concurrency)):
        time.sleep(latency.ASLEEP_S)
        for number, at_ns in enumerate(latency.paced(2 * turns, spacing_s=IDLE_S)):
            if number % 2:
                bench.app.publish(handlers.TYPE, at_ns)
            else:
                due_ns[task.defer().id] = at_ns
        jobs = latency.returned(bench, list(due_ns))
        handled = _handled_ms(bench, turns)
    return [(job.result - due_ns[job.id]) / 1e6 for job in jobs], handled


def _handled_ms(bench: Bench, events: int) -> list[float]:
    deadline = time.monotonic() + END_S
    with bench.connect() as conn:
        while len(rows := conn.execute(bench.query(RETURNED)).fetchall()) < events:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{events - len(rows)} of {events} events were not handled within {END_S:.0f} s")
            time.sleep(0.1)
    return [(began_ns - due_ns) / 1e6 for due_ns, began_ns in (json.loads(result) for (result,) in rows)]


def _pages_ms(bench: Bench) -> list[float]:
    """How long the statement of a reader's page takes, one after the other from the midst on; all events are of one transaction."""
    queries, many = bench.app.queries, bench.count(MANY, least=20 * PAGE)
    wanted = Subscription(name="pages", mode="pull", types=["bench.many"])
    took_ms: list[float] = []
    with db.connect(bench.app.dsn, name="pages") as conn:
        db.run(conn, db.plan_steadily(conn, queries))
        with conn.transaction():
            db.run(conn, declare(queries, wanted))
        conn.execute(bench.query(FILL), [many])
        (place,) = db.run(conn, queries.places(subscription=wanted.name, reader=new_id()))
        with conn.transaction():
            db.run(conn, make_tick(queries, after=place.tick))
        (window,) = db.run(conn, queries.next_tick(place.tick))
        ((seq,),) = conn.execute(bench.query("select min(seq) + %s from {schema}.event"), [many // 2])
        for _ in range(min(PAGES, many // 2 // PAGE)):
            began_s = time.monotonic()
            rows = db.run(conn, queries.page(window, seq=seq, until=None, most=PAGE, size=10**9, place=place))
            took_ms.append((time.monotonic() - began_s) * 1000)
            assert len(rows) in (PAGE, PAGE - 1)
            seq = rows[-1].seq
    return took_ms
