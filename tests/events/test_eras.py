"""A log that pg_dump carried into another cluster: each event still reaches each subscription once, also what was published there
before anybody read it."""

import contextlib
import json
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from benchmarks.chaos.cluster import Cluster
from pgqueue import App, db
from pgqueue.embedded import binaries
from pgqueue.ops.doctor import examine
from tests.answers import one_value
from tests.buses.servers import valkey
from tests.conftest import PATIENCE_S, Worker, eventually
from tests.events.publishers import Hostile
from tests.events.test_windows import dispatchers, drain, subscribe

AHEAD = 20_000  # transactions


class Servers:
    """Each is there once a test asks for it: an initdb takes longer than most tests."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    @cached_property
    def ahead(self) -> Cluster:
        """Many transactions have run."""
        cluster = self._stack.enter_context(Cluster(fsync="off"))
        pass_transactions(cluster, AHEAD)
        return cluster

    @cached_property
    def behind(self) -> Cluster:
        """A copy of its files, with few transactions."""
        return self._stack.enter_context(Cluster(fsync="off"))

    @cached_property
    def fresh(self) -> Cluster:
        """Few transactions, and of another initdb."""
        cluster = Cluster(fsync="off")
        self._stack.callback(cluster.destroy)
        cluster.initialize()
        return cluster.start()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        yield Servers(stack)


def pass_transactions(cluster: Cluster, count: int) -> None:
    with cluster.connect() as conn:
        conn.execute(f"do $$ begin for n in 1..{count} loop perform pg_current_xact_id(); commit; end loop; end $$")


def made(cluster: Cluster, *, migrated: bool = True) -> App:
    """An App on a new database."""
    name = f"shop_{uuid.uuid4().hex[:8]}"
    with cluster.connect() as admin:
        admin.execute(f"create database {name}")
    app = App(cluster.dsn(name))
    if migrated:
        app.migrate()
    return app


def carried(source: App, target: Cluster, *, how: str = "custom") -> App:
    """An App on a new database there, with all that a dump of the source has."""
    restored = made(target, migrated=False)
    carry(source, restored, how=how)
    return restored


def carry(source: App, restored: App, *, how: str = "custom") -> None:
    found = binaries.find()
    dump = [found.program("pg_dump"), "--format", how, "--dbname", source.dsn]
    read = {
        "custom": [found.program("pg_restore"), "--dbname", restored.dsn],
        "plain": [found.psql(), "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", restored.dsn],
    }[how]
    with subprocess.Popen(dump, stdout=subprocess.PIPE) as writer:
        subprocess.run(read, stdin=writer.stdout, check=True)
    assert writer.returncode == 0


def publish(app: App, first: int, last: int) -> None:
    """Each in a transaction of its own, of three keys in turn."""
    with psycopg.connect(app.dsn) as conn:
        for number in range(first, last):
            app.publish("t", number, key=f"k{number % 3}", conn=conn)
            conn.commit()


def jobs(app: App) -> dict[str, list[Any]]:
    """The payloads that each task got, in their order."""
    got: dict[str, list[Any]] = {}
    with psycopg.connect(app.dsn) as conn:
        for task, args in conn.execute("select task, args from pgqueue.job order by seq"):
            got.setdefault(task, []).append(json.loads(args)[0]["payload"])
    return got


@contextlib.contextmanager
def patience(app: App) -> Iterator[None]:
    """The loops in the block end when it takes too long: what is lost never comes."""
    timer = threading.Timer(PATIENCE_S, app.close)
    timer.start()
    yield
    timer.cancel()


def in_order(numbers: list[int]) -> bool:
    """Of each key; 100 has none."""
    keys = [[number for number in numbers if number % 3 == key and number < 100] for key in range(3)]
    return all(own == sorted(own) for own in keys)


CASES: dict[str, tuple[Callable[[Servers], Cluster], Callable[[Servers], Cluster], int]] = {
    "another cluster, of lower transaction ids": (lambda all: all.ahead, lambda all: all.fresh, 2),
    "a copy of its files, of lower transaction ids": (lambda all: all.ahead, lambda all: all.behind, 2),
    "another cluster, of higher transaction ids": (lambda all: all.fresh, lambda all: all.ahead, 2),
    "the same cluster": (lambda all: all.behind, lambda all: all.behind, 1),
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.long] if number else []) for number, case in enumerate(CASES)]
)
def test_each_event_reaches_each_subscription_once(servers: Servers, case: str) -> None:
    from_, to, era = CASES[case]
    source = made(from_(servers))
    subscribe(source, "one", "two")
    late = psycopg.connect(source.dsn)
    source.publish("t", 100, conn=late)  # has its transaction id
    lost = psycopg.connect(source.dsn)
    source.publish("t", 999, conn=lost)
    search = iter(source.subscribe("t", name="search", batch=3, start="begin"))
    publish(source, 0, 7)
    drain(source)
    got = [event.payload for event in next(search)]
    assert len(next(search)) == 3  # is not acknowledged, so it comes again
    late.commit()
    publish(source, 7, 12)
    app = carried(source, to(servers))
    for conn in (late, lost):
        conn.close()
    search.close()
    source.close()
    # Before anybody reads: some with transaction ids that the old snapshots take for seen.
    publish(app, 12, 15)
    with psycopg.connect(app.dsn) as conn, conn.transaction(), conn.transaction():
        app.publish("t", 15, key="k0", conn=conn)
        if era == 1:  # a lease of who reads the source
            conn.execute("update pgqueue.place set held_by = null, held_until = null")
    wanted = [*range(16), 100]
    with patience(app):
        for events in app.subscribe("t", name="search", batch=3):
            got += [event.payload for event in events]
            if len(got) == len(wanted):
                publish(app, 16, 19)
            if len(got) == len(wanted) + 3:
                break
    publish(app, 19, 20)
    drain(app)
    assert sorted(got) == sorted([*wanted, 16, 17, 18]) and in_order(got)
    for numbers in (made_jobs := jobs(app)).values():
        assert sorted(numbers) == sorted([*wanted, 16, 17, 18, 19])
        assert in_order(numbers)
    assert made_jobs.keys() == {"one", "two"}
    with psycopg.connect(app.dsn) as conn:
        assert one_value(conn, "select max(era) from pgqueue.event_era") == era
        assert one_value(conn, "select era from pgqueue.event order by seq desc limit 1") == era
    # What is read from the beginning has both eras, each event once.
    again: list[Any] = []
    with patience(app):
        for events in app.subscribe("t", name="again", start="begin", batch=1000):
            again += [event.payload for event in events]
            if len(again) >= len(wanted) + 4:
                break
    assert sorted(again) == sorted([*wanted, 16, 17, 18, 19])
    newest = [json.loads(event.payload) for event in app.events(limit=3)]
    assert newest == [19, 18, 17]
    app.close()


def test_a_dump_in_the_midst_of_hostile_publishers(servers: Servers) -> None:
    """Restored as text; each event that the dump has is a job of each subscription once, in the order of its key."""
    source = made(servers.ahead)
    subscribe(source, "one", "two")
    hostile = Hostile(source, seconds=1.5)
    with dispatchers(source, several=1), hostile.at_work():
        time.sleep(0.8)  # they are at it
        app = carried(source, servers.fresh, how="plain")
    source.close()
    publish(app, 10_000, 10_050)
    with db.connect(app.dsn) as own:
        assert db.run(own, app.queries.begin_era()) == [True] and db.run(own, app.queries.begin_era()) == [False]
    drain(app)
    with psycopg.connect(app.dsn) as conn:
        events = [event for (event,) in conn.execute("select id::text from pgqueue.event")]
        jobs = conn.execute("select task, args::json -> 0 from pgqueue.job order by seq").fetchall()
    assert len(events) > 100
    last: dict[tuple[str, str], int] = {}
    for task, event in jobs:
        assert event["payload"] > last.get((task, event["key"]), -1)
        last[task, event["key"]] = event["payload"]
    counted = Counter((task, event["id"]) for task, event in jobs)
    assert counted == {(task, event): 1 for task in ("one", "two") for event in events}
    app.close()


def test_a_transaction_that_uses_the_log_is_waited_for_and_named(servers: Servers) -> None:
    source = made(servers.ahead)
    subscribe(source, "one")
    publish(source, 0, 1)
    app = carried(source, servers.fresh)
    source.close()

    def found(conn: psycopg.Connection) -> list[str]:
        everything = db.run(conn, examine(app.queries, app.config, wire=db.wire(conn)))
        return [f"{what}: {cure}" for problem, what, cure in everything if problem and "dump" in what]

    with db.connect(app.dsn) as conn, psycopg.connect(app.dsn, application_name="importer") as mine:
        assert found(conn) == [
            "the log of events was restored from a dump, and its new era has not begun: no event is delivered: "
            "start a worker, a relay or a loop: it begins the era"
        ]
        app.publish("t", 1, conn=mine)
        with pytest.raises(
            psycopg.errors.LockNotAvailable, match="its new era cannot begin while a transaction that uses it"
        ):
            db.run(conn, app.queries.begin_era())
        (told,) = found(conn)
        assert f"end the transaction of session {mine.info.backend_pid} (importer)" in told
        with contextlib.closing(iter(app.subscribe("t", name="search", start="begin"))) as events:
            mine.commit()
            assert [event.payload for event in next(events)] == [0, 1]
        assert found(conn) == []
    drain(app)
    assert jobs(app) == {"one": [0, 1]}
    app.close()


@pytest.mark.long
def test_a_worker_and_a_relay_continue_after_a_restore(
    servers: Servers, start_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    """The stream has what the old cluster sent after the dump was made: numbers of it come again, for other events."""
    bus = valkey(tmp_path).start()
    url = f"redis://127.0.0.1:{bus.port}/0/orders"
    source = made(servers.ahead)
    settings: dict[str, Any] = {"app": "tests.relay_app", "env": {"TEST_BUS": url}}
    worker = start_worker("-c", "1", **settings, dsn=source.dsn).ready()
    app = made(servers.fresh, migrated=False)
    with redis.Redis(port=bus.port, decode_responses=True) as there:

        def relayed() -> list[Any]:
            return [json.loads(entry["payload"]) for _, entry in there.xrange("orders")]

        def orders(app: App, *numbers: int) -> None:
            app.publish_many({"type": "order.paid", "payload": number} for number in numbers)

        orders(source, 0, 1)
        eventually(lambda: relayed() == [0, 1], what="all relayed")
        carry(source, app)
        orders(source, 2, 3)
        eventually(lambda: relayed() == [0, 1, 2, 3], what="the old cluster continues")
        assert worker.stop() == 0
        orders(app, 4, 5)
        start_worker("-c", "1", **settings, dsn=app.dsn).ready()
        orders(app, 6)
        # Its place is as the dump has it, perhaps before 0 and 1.
        eventually(lambda: relayed()[-3:] == [4, 5, 6], what="all relayed")
        assert set(relayed()) == set(range(7))
    bus.stop()
    app.close()
    source.close()
