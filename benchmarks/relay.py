"""A relay to Redis Streams beside the loop that outboxes are usually drained with, in turns on one server.

The loop, as many articles have it: `select ... for update skip locked limit 100`, XADD one by one, a mark for each, commit. Both
find all of their events waiting. Redis keeps entries in memory, which is its default; snapshots are off. The rate is that between
the first events in the stream and the last one, so that no start of a process is in it. Next to them stand the commits a second
of one INSERT each, which say what the server and its disk do.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis

from benchmarks import processes
from benchmarks.bench import Bench
from examples.outbox.servers import Redis
from pgqueue.bench.measurement import Measurement, at_least, typical

EVENTS = 100_000
LOOP_EVENTS = 5_000
CHUNK = 1_000  # of a transaction that publishes
INSERTERS = 8
INSERT_S = 2.0
START_S = 60.0
STALL_S = 60.0
LOOK_S = 0.002
PAYLOAD = {"id": 123456, "email": "somebody@example.org", "plan": "free", "number": 123456789}
KEYS = 1_000
NAME = "bench"
LIMIT = 100  # rows of a round of the loop

OUTBOX = """
create table outbox (
  id            bigint generated always as identity primary key,
  topic         text not null,
  key           text,
  payload       jsonb not null,
  created_at    timestamptz not null default now(),
  published_at  timestamptz
);
create index on outbox (id) where published_at is null
"""
FILL = """
insert into outbox (topic, key, payload)
select 'order.paid', 'k' || mod(n, %s), %s::jsonb from generate_series(1, %s) as n
"""
TAKE = """
select id, topic, key, payload::text
from outbox
where published_at is null
order by id
limit %s
for update skip locked
"""


def measure(bench: Bench) -> Iterator[Measurement]:
    events, few = max(CHUNK, bench.count(EVENTS)), max(LIMIT, bench.count(LOOP_EVENTS))
    commits, loops, relays, costs = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="relay-") as folder, _bus(Path(folder)) as bus, bench.connect() as conn:
        conn.execute(OUTBOX)
        client = redis.Redis.from_url(bus.url)
        with _relay(bench, bus):  # makes the subscription, which is given what is published from then on
            pass
        for _ in range(bench.repeat):
            commits.append(_commits(bench, seconds=max(0.2, INSERT_S * bench.scale)))
            loops.append(_loop(conn, client, few))
            rate, cost_us = _relayed(bench, bus, client, events)
            relays.append(rate)
            costs.append(cost_us)
        client.close()
        conn.execute("drop table outbox")
    yield typical("bare INSERT, 8 clients", commits, "commits/s")
    yield typical("relay to Redis Streams, the usual loop", loops, "events/s")
    yield typical("relay to Redis Streams", relays, "events/s", at_least(20_000))
    ratios = [relay / loop for relay, loop in zip(relays, loops, strict=True)]
    yield typical("relay to Redis Streams: times the usual loop", ratios, "x", at_least(10))
    if processes.HAS_PROC:
        yield typical("relay to Redis Streams: processor time of its process", costs, "us/event")


@contextmanager
def _bus(folder: Path) -> Iterator[Redis]:
    bus = Redis(folder, durable=False)
    bus.start()
    try:
        yield bus
    finally:
        bus.kill()


# -- the usual loop --


def _loop(conn: psycopg.Connection, client: redis.Redis, events: int) -> float:
    """Events a second of it, until none is left."""
    conn.execute("truncate outbox")
    conn.execute(FILL, [KEYS, json.dumps(PAYLOAD), events])
    conn.execute("analyze outbox")
    client.flushall()
    began, done = time.perf_counter(), 0
    while sent := _round(conn, client):
        done += sent
    assert done == events == client.xlen("orders")
    return events / (time.perf_counter() - began)


def _round(conn: psycopg.Connection, client: redis.Redis) -> int:
    with conn.transaction():
        rows = conn.execute(TAKE, [LIMIT]).fetchall()
        for number, topic, key, payload in rows:
            client.xadd("orders", {"id": number, "type": topic, "key": key, "payload": payload})
            conn.execute("update outbox set published_at = now() where id = %s", [number])
    return len(rows)


# -- ours --


@contextmanager
def _relay(bench: Bench, bus: Redis) -> Iterator[int]:
    """`pgqueue relay`, ready; its process id."""
    command = [sys.executable, "-m", "pgqueue", "relay", "--to", f"{bus.url}/orders", "--name", NAME]
    environment = {**os.environ, "PGQUEUE_DSN": bench.app.dsn, "PGQUEUE_SCHEMA": bench.app.config.schema}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if "is ready" not in process.stdout.readline():
            raise RuntimeError("the relay did not start")
        yield process.pid
    finally:
        process.terminate()
        process.wait(START_S)


def _relayed(bench: Bench, bus: Redis, client: redis.Redis, events: int) -> tuple[float, float]:
    """Events a second, and microseconds of its processor time for each."""
    client.flushall()
    one = {"type": "order.paid", "payload": PAYLOAD}
    for first in range(0, events, CHUNK):
        bench.app.publish_many({**one, "key": f"k{n % KEYS}"} for n in range(first, min(first + CHUNK, events)))
    with _relay(bench, bus) as pid:
        first, began, before = _await(client, 1), time.perf_counter(), _cpu_s(pid)
        _await(client, events)
        took_s, worked_s = time.perf_counter() - began, _cpu_s(pid) - before
    sent = events - first
    return sent / took_s, worked_s / sent * 1e6


def _cpu_s(pid: int) -> float:
    return processes.cpu_s([pid]) if processes.HAS_PROC else 0.0


def _await(client: redis.Redis, events: int) -> int:
    """Wait until the stream has so many; how many it has."""
    deadline = time.perf_counter() + STALL_S
    while (there := int(client.xlen("orders"))) < events:  # type: ignore[arg-type]  # not asyncio's
        if time.perf_counter() > deadline:
            raise RuntimeError(f"the stream has {there} of {events} events")
        time.sleep(LOOK_S)
    return there


# -- the floor --


def _commits(bench: Bench, *, seconds: float) -> float:
    """Commits a second of eight sessions that insert one small row each time."""
    with bench.connect() as conn:
        conn.execute("create table bare (id bigint generated always as identity, payload text)")
    counts: list[int] = []
    end = time.perf_counter() + seconds

    def insert() -> None:
        done = 0
        with bench.connect() as conn:
            while time.perf_counter() < end:
                conn.execute("insert into bare (payload) values (%s)", [str(PAYLOAD)])
                done += 1
        counts.append(done)

    _at_once(insert)
    with bench.connect() as conn:
        conn.execute("drop table bare")
    return sum(counts) / seconds


def _at_once(work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(INSERTERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
