"""One run from beginning to end: a server, worker groups and producers, a plan of faults, and then the check.

Phases: warm-up without faults; faults while jobs come in; everything healed; all jobs must end; one group is cut off for
good, and what is deferred then must end all the same; the check.
"""

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.chaos import tasks
from benchmarks.chaos.bus import Bus
from benchmarks.chaos.checker import Failure, History, Row, Verdict, check
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.faults import SESSIONS, Injector
from benchmarks.chaos.gate_promises import WITNESS, Gates, Place, Rule, Seen
from benchmarks.chaos.groups import READER, Group, worker
from benchmarks.chaos.ledger import Ledger, read
from benchmarks.chaos.plan import Fault
from benchmarks.chaos.producers import Producer
from benchmarks.chaos.promises import Events, Logged, Told, check_events
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.publishers import KEYS, Publisher
from benchmarks.chaos.reader import PULL
from benchmarks.chaos.servers import Servers
from pgqueue import App

WARM_UP_S = 3.0
LAST_JOBS = 50  # deferred while one group is cut off for good
LAST_TURNS = 10  # taken then
SUBSCRIBED_S = 60.0  # for all to subscribe before the first event
LEAVE_S = 10.0  # for sessions of stopped workers to be gone


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is run."""

    plan: Sequence[Fault]
    seed: int
    jobs: int
    seconds: float
    groups: Sequence[str] = ("w1", "w2")
    children: int = 2
    producers: int = 4
    long_share: float = 0.05
    long_s: float = 1.5
    drain_s: float = 60.0
    bulk_share: float = 0.02
    """Of the defers insert many unique jobs at once, over which the producers fight."""
    gated_share: float = 0.2
    """Of the defers make jobs with a limit, an order or a rate."""
    standby: bool = False
    """Whether the server has one to fail over to."""
    turns: int = 0
    """Transactions of those who publish; most have several events. Without any, some are published at the end."""
    publishers: int = 3
    bad_rows: int = 1
    """Rows whose arguments nobody can read, put in by hand."""


def play(scenario: Scenario, *, say: Callable[[str], None]) -> tuple[Verdict, Path]:
    """Run it; returns what was found and the folder with the ledger and the logs."""
    folder = Path(tempfile.mkdtemp(prefix="pgqueue-chaos-ledger-"))
    with ExitStack() as stack:
        servers = stack.enter_context(Servers(standby=scenario.standby))
        stage = Stage(scenario, servers, stack.enter_context(Bus()), folder, stack)
        stage.warm_up()
        stage.break_things(say=say)
        drained = stage.drain(say=say)
        lonely = drained and stage.go_on_without_one(say=say)
        history = stage.end()
    verdict = check(history)
    if not (drained and lonely):
        verdict.figures["note"] = "not every job ended in time"  # type: ignore[index]
    return verdict, folder


# Of those whose rule has slots: what a rate lets through is a matter of time.
FREE_PLACES = """
select count(*)
from pgqueue.job
join pgqueue.gate as rule on rule.name = split_part(gates[greatest(job.gate, 1)], '=', 1)
where
  state = 'waiting' and slots > (
    select count(*) from pgqueue.job as past
    where
      past.gates[1] = job.gates[greatest(job.gate, 1)] and past.gate > 1
      or past.gates[2] = job.gates[greatest(job.gate, 1)] and past.gate > 2
  )
"""


class Stage:
    """The processes of one run and its phases."""

    def __init__(self, scenario: Scenario, servers: Servers, bus: Bus, folder: Path, stack: ExitStack) -> None:
        self._scenario = scenario
        self._servers = servers
        self._bus = bus
        self._folder = folder
        self._mark = uuid.uuid4().hex  # in the environment of every process of this run
        self._ledger = Ledger(folder, "driver")
        _prepare(servers.primary)
        self._app_proxy = stack.enter_context(Proxy(servers.primary.port))
        self._groups = [self._group(name, stack, worker(scenario.children)) for name in scenario.groups]
        self._reader = self._group("reader", stack, READER)
        stack.callback(lambda: [group.kill() for group in (*self._groups, self._reader)])
        self._injector = Injector(
            servers, self._groups, self._app_proxy, self._ledger, seed=scenario.seed, bus=bus, reader=self._reader
        )
        self._producers = [self._producer(number) for number in range(scenario.producers)]
        self._publishers = [self._publisher(number) for number in range(scenario.publishers)]

    def _group(self, name: str, stack: ExitStack, module: Sequence[str]) -> Group:
        proxy = stack.enter_context(Proxy(self._servers.primary.port))
        environment = {
            "PGQUEUE_CHAOS_LEDGER": str(self._folder), "PGQUEUE_CHAOS_RUN": self._mark, "PGQUEUE_CHAOS_BUS": self._bus.url,
        }  # fmt: skip
        return Group(
            name, proxy, dsn=self._servers.primary.dsn("shop", port=proxy.port), module=module, folder=self._folder,
            environment=environment,
        )  # fmt: skip

    def _producer(self, number: int) -> Producer:
        scenario = self._scenario
        jobs = scenario.jobs // scenario.producers
        return Producer(
            number, seed=scenario.seed, dsn=self._servers.primary.dsn("shop", port=self._app_proxy.port), ledger=self._ledger,
            jobs=jobs, rate=jobs / scenario.seconds, long_share=scenario.long_share, long_s=scenario.long_s,
            bulk_share=scenario.bulk_share, gated_share=scenario.gated_share,
        )  # fmt: skip

    def _publisher(self, number: int) -> Publisher:
        scenario = self._scenario
        turns = scenario.turns // scenario.publishers
        return Publisher(
            number, seed=scenario.seed, dsn=self._servers.primary.dsn("shop", port=self._app_proxy.port), ledger=self._ledger,
            turns=turns, rate=turns / scenario.seconds,
        )  # fmt: skip

    # -- phases --

    def warm_up(self) -> None:
        """Everything runs, nothing is broken."""
        with self._servers.primary.connect("shop") as conn:
            for _ in range(self._scenario.bad_rows):
                conn.execute(
                    "insert into pgqueue.job (id, task, args, max_attempts) "
                    "values (gen_random_uuid(), 'benchmarks.chaos.tasks.ext', 'no json', 1)"
                )
        for group in (*self._groups, self._reader):
            group.start()
        self._subscribed()
        for producer in (*self._producers, *self._publishers):
            producer.start()
        time.sleep(WARM_UP_S)

    def _subscribed(self) -> None:
        """Wait until all have: what is published before is not theirs."""
        deadline = time.monotonic() + SUBSCRIBED_S
        wanted = {*tasks.app.subscriptions, PULL}
        with self._servers.primary.connect("shop") as conn:
            while {name for (name,) in conn.execute("select name from pgqueue.subscription")} != wanted:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not everybody has subscribed; the logs are in {self._folder}")
                time.sleep(0.05)

    def break_things(self, *, say: Callable[[str], None]) -> None:
        """Carry out the plan, wait for the producers, and heal everything."""
        self._injector.run(self._scenario.plan, say=say)
        for producer in (*self._producers, *self._publishers):
            producer.join()
        self._injector.heal()

    def drain(self, *, say: Callable[[str], None]) -> bool:
        """Whether all jobs ended in time."""
        began = time.monotonic()
        done = self._ended(within_s=self._scenario.drain_s)
        say(f"{'drained' if done else 'NOT drained'} {time.monotonic() - began:.1f} s after the last fault was healed")
        return done

    def go_on_without_one(self, *, say: Callable[[str], None]) -> bool:
        """A fault that never heals must not stop the rest."""
        if len(self._groups) < 2:
            return True
        self._groups[-1].proxy.cut()
        last = Producer(
            99, seed=self._scenario.seed, dsn=self._servers.primary.dsn("shop"), ledger=self._ledger, jobs=LAST_JOBS, rate=50,
            long_share=0, long_s=0, bulk_share=0, gated_share=self._scenario.gated_share,
        )  # fmt: skip
        last.run()
        Publisher(
            99,
            seed=self._scenario.seed,
            dsn=self._servers.primary.dsn("shop"),
            ledger=self._ledger,
            turns=LAST_TURNS,
            rate=50,
        ).run()
        done = self._ended(within_s=self._scenario.drain_s)
        say(
            f"with {self._groups[-1].name} cut off for good the last {LAST_JOBS} jobs {'ended' if done else 'did NOT end'}"
        )
        return done

    def end(self) -> History:
        """Stop the workers and collect what is left."""
        self._reader.kill()
        for group in self._groups[:-1]:
            group.stop()
        self._groups[-1].kill()
        with self._servers.primary.connect("shop") as conn:
            leaks = self._leaks(conn)
            records, rows, failures = list(read(self._folder)), _rows(conn), _failures(conn)
            return History(
                records=records, rows=rows, failures=failures, effects=_effects(conn),
                placed=frozenset(key for (key,) in conn.execute("select key from placed")), leaks=leaks,
                events=self._events(conn), gates=_gates(conn, records, rows, failures),
            )  # fmt: skip

    def _ended(self, *, within_s: float) -> bool:
        """All jobs have ended, and no event waits."""
        deadline = time.monotonic() + within_s
        with self._servers.primary.connect("shop") as conn:
            while self._waits(conn):
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.1)
        return True

    def _waits(self, conn: psycopg.Connection) -> bool:
        ((jobs, events),) = conn.execute(
            "select exists (select from pgqueue.job), (select count(*) from pgqueue.event)"
        )
        return jobs or self._bus.count() < events or any("lost" in kind for kind, _ in check_events(self._events(conn)))

    def _events(self, conn: psycopg.Connection) -> Events:
        return Events(
            told=[Told(*row) for row in conn.execute("select event::text, turn, key, nth from told")],
            log=[Logged(*row) for row in conn.execute("select id::text, type, payload::json #>> '{}' from pgqueue.event")],
            subscriptions={name: each.types for name, each in tasks.app.subscriptions.items() if each.mode == "job"},
            jobs=conn.execute(
                "select task, args::json -> 0 ->> 'id' from pgqueue.jobs where task = any (%s)",
                [[name for name, each in tasks.app.subscriptions.items() if each.mode == "job"]],
            ).fetchall(),
            stream=[entry.event for entry in self._bus.entries()], records=list(read(self._folder)),
        )  # fmt: skip

    def _leaks(self, conn: psycopg.Connection) -> dict[str, int]:
        """Sessions, locks and processes that should be gone; waits a moment for those that are about to go."""
        counts = {
            "sessions": f"select count(*) {SESSIONS}",
            "advisory locks": "select count(*) from pg_locks where locktype = 'advisory'",
            "percent of the notify queue": "select round(pg_notification_queue_usage() * 100)",
            "jobs at gates with free places": FREE_PLACES,
        }
        deadline = time.monotonic() + LEAVE_S
        self._groups[-1].proxy.heal()  # the server only learns now that the last worker is gone
        while True:
            found = {what: int(conn.execute(count).fetchone()[0]) for what, count in counts.items()}  # type: ignore[index]
            found["processes"] = len(_processes(self._mark))
            if not any(found.values()) or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


def _prepare(cluster: Cluster) -> None:
    with cluster.connect() as conn:
        conn.execute("create database shop")
    app = App(cluster.dsn("shop"))
    app.migrate()
    app.close()
    with cluster.connect("shop") as conn:
        conn.execute(
            "create table placed (key text primary key); create table effect (job uuid, token bigint); "
            "create table told (event uuid, turn text, key text, nth bigint); "
            "create table account (key text primary key, nth bigint)"
        )
        conn.execute(WITNESS)
        conn.execute("insert into account select 'k' || n, 0 from generate_series(0, %s) as n", [KEYS - 1])


def _processes(mark: str) -> list[int]:
    """Every process that was started by this run and is not dead."""
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if mark in _environment(path)]


def _environment(path: Path) -> str:
    try:
        return "" if path.parent.name == str(os.getpid()) else path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _rows(conn: psycopg.Connection) -> list[Row]:
    select = """
    select
      id::text, state::text, task, coalesce(case when args like '["%' then args::json ->> 0 end, kwargs::json ->> 'key', ''),
      claim_token, result::bigint, attempt, crashes, unique_key, extract(epoch from created_at)::float8,
      extract(epoch from finished_at)::float8, error
    from pgqueue.jobs
    where args <> 'no json'
    """
    return [Row(*row) for row in conn.execute(select)]


def _failures(conn: psycopg.Connection) -> list[Failure]:
    select = "select job_id::text, claim_token, cause, extract(epoch from failed_at)::float8 from pgqueue.attempt"
    return [Failure(*row) for row in conn.execute(select)]


def _effects(conn: psycopg.Connection) -> list[tuple[str, int]]:
    return [(job, token) for job, token in conn.execute("select job::text, token from effect")]


def _gates(
    conn: psycopg.Connection, records: Sequence[Mapping[str, Any]], rows: Sequence[Row], failures: Sequence[Failure]
) -> Gates:
    rules = conn.execute("select name, slots, every_s, coalesce(burst, 1) from pgqueue.gate")
    of_jobs = conn.execute(
        "select id::text, gates from pgqueue.job where gates is not null "
        "union all select id::text, gates from pgqueue.history where gates is not null"
    )
    lines = conn.execute(
        "select id::text, args::json ->> 0, args::json ->> 1, (args::json ->> 2)::int from pgqueue.jobs where task like '%.in_line'"
    )
    return Gates(
        rules={name: Rule(*rest) for name, *rest in rules},
        of_jobs=dict(of_jobs.fetchall()),
        lines=[Place(*row) for row in lines],
        seen=[Seen(*row) for row in conn.execute("select what, job::text, gate, at from witness.seen")],
        losses={(failure.job, failure.token): failure.failed_at for failure in failures},
        ends={row.id: row.finished_at for row in rows if row.finished_at is not None},
        records=records,
    )


@contextmanager
def interrupted() -> Iterator[None]:
    """TERM ends the run like Ctrl-C does, so that its processes are ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield


def forget(folder: Path) -> None:
    """Remove a run's ledger."""
    shutil.rmtree(folder, ignore_errors=True)
