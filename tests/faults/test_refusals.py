"""Something in what a worker writes is refused: it stands alone, in plain words, and all others are recorded as ever."""

import ast
import asyncio
import contextlib
import dataclasses
import json
import logging
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import pgqueue
from pgqueue import App, Breaker
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.queries import Queries, Statement
from pgqueue.worker.supervisor.admission import Admission
from pgqueue.worker.supervisor.avoided import AvoidedTasks
from pgqueue.worker.supervisor.breakers import Breakers
from pgqueue.worker.supervisor.connection import TroubleLog, WorkConnection
from pgqueue.worker.supervisor.cursors import Cursors
from pgqueue.worker.supervisor.finisher import CROWD, GATHER_S, Finisher
from pgqueue.worker.supervisor.identity import Identity
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue
from pgqueue.worker.supervisor.sieve import REFUSED
from pgqueue.worker.supervisor.tally import Tally
from pgqueue.worker.supervisor.wakeups import Wakeups
from tests import hostile_tasks, tasks
from tests.conftest import Worker, eventually
from tests.hands import Hands


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    """Nothing is done to the server."""
    return shared_dsn


@contextlib.asynccontextmanager
async def finishing(dsn: str, queries: Queries, worker: str) -> AsyncIterator[tuple[Finisher, OutcomeQueue]]:
    """A finisher at work in the name of a worker, and what it writes."""
    connection = WorkConnection(dsn, queries, name="finishing", troubles=TroubleLog())
    outcome_queue, wakeups = OutcomeQueue(), Wakeups(Identity(worker))
    avoided = AvoidedTasks(Cursors(), wakeups)
    finisher = Finisher(
        connection,
        queries,
        outcome_queue,
        wakeups,
        avoided,
        Tally(),
        Admission(connection, queries, wakeups, Breakers(connection, queries, wakeups)),
        worker_name="by hand",
    )
    running = asyncio.create_task(finisher.run())
    try:
        yield finisher, outcome_queue
    finally:
        running.cancel()
        await asyncio.wait([running])
        await connection.close()


async def until(condition: Callable[[], Any], *, what: str) -> None:
    await asyncio.to_thread(eventually, condition, what=what)


def ended(job: Claimed, verdict: Verdict, **fields: Any) -> Outcome:
    failed = {"cause": "exception", "error": "ValueError: no luck", "traceback": "here"}
    return Outcome(
        job.id, job.token, verdict, **((failed if verdict in (Verdict.RETRY, Verdict.DEAD) else {}) | fields)
    )


def write(app: App, conn: psycopg.Connection, poison: Callable[[Claimed], Outcome]) -> tuple[str, Finisher]:
    """Claim 50 jobs and let one of them end as told among others that end in every way; its id."""
    for _ in range(50):
        app.enqueue("t", max_attempts=3)
    hands = Hands(conn, app.queries)
    jobs = hands.claim()
    kinds = [Verdict.SUCCEEDED, Verdict.RETRY, Verdict.DEAD, Verdict.SNOOZE, Verdict.CANCELLED, Verdict.RELEASE]
    outcomes = [
        ended(job, kinds[n % 6], **({"result": "1"} if n % 6 == 0 else {"delay_s": 300.0} if n % 6 in (1, 3) else {}))
        for n, job in enumerate(jobs)
    ]
    outcomes[25] = poison(jobs[25])

    async def run() -> Finisher:
        async with finishing(app.dsn, app.queries, hands.id) as (finisher, outcome_queue):
            outcome_queue.deliver(outcomes)
            await until(lambda: finisher.idle, what="all is written")
            assert not outcome_queue._bytes and not outcome_queue.full
        return finisher

    finisher = asyncio.run(run())
    states: dict[str, str] = dict(conn.execute("select id::text, state::text from pgqueue.jobs").fetchall())
    after = ["succeeded", "scheduled", "dead", "scheduled", "cancelled", "queued"]
    assert {job.id: states[job.id] for job in jobs} | {jobs[25].id: ""} == {
        job.id: after[n % 6] for n, job in enumerate(jobs)
    } | {jobs[25].id: ""}
    assert finisher.counts["succeeded"] == 9
    return jobs[25].id, finisher


NO_TEXT = [object(), {"a": 1}, "\0", "\ud800"]
OF_COLUMNS: dict[str, list[tuple[Verdict, Any]]] = {
    "result": [(Verdict.SUCCEEDED, value) for value in [*NO_TEXT, 5, b"x", ["a"]]],
    "delay_s": [
        (verdict, value)
        for verdict in (Verdict.RETRY, Verdict.SNOOZE)
        for value in (math.nan, math.inf, 1e300, "soon", None, object(), [1])
    ],
    "cause": [(Verdict.RETRY, value) for value in NO_TEXT],
    "error": [(verdict, value) for verdict in (Verdict.RETRY, Verdict.DEAD, Verdict.CANCELLED) for value in NO_TEXT],
    "traceback": [(Verdict.DEAD, value) for value in NO_TEXT],
}
POISONS = [(field, verdict, value) for field, poisons in OF_COLUMNS.items() for verdict, value in poisons]


@pytest.mark.parametrize(("field", "verdict", "value"), POISONS, ids=lambda value: repr(value)[:20])
def test_a_refused_value_becomes_a_failed_attempt_in_plain_words(
    app: App, conn: psycopg.Connection, caplog: pytest.LogCaptureFixture, field: str, verdict: Verdict, value: Any
) -> None:
    job_id, finisher = write(app, conn, lambda job: ended(job, verdict, **{field: value}))
    assert finisher.unrecorded is None
    state = {Verdict.RETRY: "scheduled", Verdict.CANCELLED: "cancelled"}.get(verdict, "dead")
    assert conn.execute("select state::text from pgqueue.jobs where id = %s", [job_id]).fetchone() == (state,)
    if verdict in (Verdict.SUCCEEDED, Verdict.SNOOZE):
        ((cause, error),) = conn.execute("select cause, error from pgqueue.attempt where job_id = %s", [job_id])
        assert cause == REFUSED and "could not be recorded: the database refused it (" in error
    (warning,) = told(caplog, logging.WARNING)
    assert warning.startswith(f"job {job_id}: the database refused the end of its attempt ({verdict}): ")


@pytest.mark.parametrize(
    ("field", "value"), [("job_id", "no id"), ("token", "x"), ("token", 2**70), ("verdict", "what?")]
)
def test_what_cannot_be_recorded_at_all_is_told_of_and_left_to_the_rescue(
    app: App, conn: psycopg.Connection, caplog: pytest.LogCaptureFixture, field: str, value: Any
) -> None:
    job_id, finisher = write(app, conn, lambda job: ended(job, Verdict.RETRY)._replace(**{field: value}))
    assert conn.execute("select state::text from pgqueue.jobs where id = %s", [job_id]).fetchone() == ("running",)
    assert str(finisher.unrecorded).startswith("could not record the end of 1 job: ")
    (error,) = [text for text in told(caplog, logging.ERROR) if "is dead" not in text]
    assert "cannot be recorded" in error and "until it is rescued" in error


def told(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.mark.parametrize("fraction", ["half", object(), 1e300, {}])
@pytest.mark.parametrize("note", ["fine", "\0"])
def test_a_refused_progress_report_is_left_out(
    app: App, conn: psycopg.Connection, caplog: pytest.LogCaptureFixture, fraction: Any, note: str
) -> None:
    for _ in range(20):
        app.enqueue("t")
    hands = Hands(conn, app.queries)
    jobs = hands.claim()

    async def run() -> None:
        async with finishing(app.dsn, app.queries, hands.id) as (_, outcome_queue):
            for number, job in enumerate(jobs):
                outcome_queue.report(
                    job.id, job.token, fraction if number == 7 else number % 2 / 2 or 1, note if number == 7 else "on"
                )
            await until(lambda: len(told(caplog, logging.WARNING)) == 1, what="it is told")

    asyncio.run(run())
    assert f"job {jobs[7].id}: its progress report: " in told(caplog, logging.WARNING)[0]
    reported = "select id::text from pgqueue.job where progress_note = 'on'"
    assert {id_ for (id_,) in conn.execute(reported)} == {job.id for job in jobs} - {jobs[7].id}


@pytest.mark.parametrize("verdict", [Verdict.UNSURE, Verdict.MISFIT])
def test_an_end_that_the_database_is_asked_about_stands_for_itself(
    app: App, conn: psycopg.Connection, verdict: Verdict
) -> None:
    """Asking about it takes other statements; a poisoned one among several does not keep them from being asked."""
    for _ in range(3):
        app.enqueue("t")
    hands = Hands(conn, app.queries)
    first, poisoned, last = hands.claim()

    async def run() -> None:
        async with finishing(app.dsn, app.queries, hands.id) as (finisher, outcome_queue):
            asked: dict[str, Any] = {
                "cause": "commit",
                "error": "lost",
                "traceback": "here",
                "delay_s": 5.0,
                "otherwise": "retry",
            }
            outcome_queue.deliver([
                Outcome(first.id, first.token, verdict, **asked),
                Outcome("no id", poisoned.token, verdict, **asked),
                Outcome(last.id, last.token, verdict, **asked),
            ])  # fmt: skip
            scheduled = "select count(*) from pgqueue.job where state = 'scheduled'"
            await until(lambda: conn.execute(scheduled).fetchone() == (2,), what="the others are settled")
            await until(
                lambda: finisher.holds() == {"no id"}, what="nothing else is held, a moment after its row is seen"
            )

    asyncio.run(run())


# -- what is nobody's fault --


@pytest.fixture
def outsider(conn: psycopg.Connection, shared_dsn: str) -> Iterator[str]:
    """The DSN of a role that may what it is granted."""
    role = f"outsider_{uuid.uuid4().hex[:8]}"
    conn.execute(f"create role {role} login password 'secret'")
    conn.execute(f"grant usage on schema pgqueue to {role}")
    conn.execute(f"grant all on all tables in schema pgqueue to {role}")
    conn.execute(f"grant all on all sequences in schema pgqueue to {role}")
    yield make_conninfo(shared_dsn, user=role, password="secret")
    conn.execute(f"drop owned by {role}")
    conn.execute(f"drop role {role}")


MOMENTS = {
    "a right on history": ("revoke insert on pgqueue.history from {role}", "grant insert on pgqueue.history to {role}"),
    "a right on jobs": ("revoke delete on pgqueue.job from {role}", "grant delete on pgqueue.job to {role}"),
    "a right to update": ("revoke update on pgqueue.job from {role}", "grant update on pgqueue.job to {role}"),
    "a renamed table": ("alter table pgqueue.attempt rename to aside", "alter table pgqueue.aside rename to attempt"),
    "a renamed column": (
        "alter table pgqueue.history rename result to aside", "alter table pgqueue.history rename aside to result",
    ),
    "a trigger of theirs": (
        "create function pgqueue.broken() returns trigger language plpgsql as "
        "$$ begin perform 1 from nowhere; return new; end $$; "
        "create trigger broken before insert on pgqueue.history for each row execute function pgqueue.broken()",
        "drop function pgqueue.broken() cascade",
    ),
}  # fmt: skip


MIXED = (Verdict.SUCCEEDED, Verdict.RETRY, Verdict.RELEASE) * 10
CASES = [  # each where its statement touches what is wrong
    *((moment, MIXED) for moment in MOMENTS if "trigger" not in moment),
    ("a right on history", (Verdict.SUCCEEDED,)),
    ("a right on jobs", (Verdict.SUCCEEDED,)),
    ("a renamed column", (Verdict.SUCCEEDED,)),
    ("a trigger of theirs", (Verdict.SUCCEEDED,)),
    ("a right on history", (Verdict.RETRY,)),
    ("a right to update", (Verdict.RETRY,)),
    ("a renamed table", (Verdict.RETRY,)),
    ("a trigger of theirs", (Verdict.SUCCEEDED,) * 100),
    ("a trigger of theirs", (Verdict.DEAD,)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "kinds"), CASES, ids=lambda value: value if isinstance(value, str) else str(len(value))
)
def test_nobody_is_blamed_for_what_concerns_all(
    app: App,
    conn: psycopg.Connection,
    outsider: str,
    caplog: pytest.LogCaptureFixture,
    moment: str,
    kinds: Sequence[Verdict],
) -> None:
    begin, end = (text.format(role=conninfo_to_dict(outsider)["user"]) for text in MOMENTS[moment])
    for _ in kinds:
        app.enqueue("t")
    hands = Hands(conn, app.queries)
    jobs = hands.claim()

    async def run() -> None:
        async with finishing(outsider, app.queries, hands.id) as (finisher, outcome_queue):
            conn.execute(begin)
            try:
                outcome_queue.deliver([
                    ended(job, kind, **({"result": "1"} if kind == Verdict.SUCCEEDED else {"delay_s": 60.0}))
                    for job, kind in zip(jobs, kinds, strict=True)
                ])  # fmt: skip
                lost = finisher._connection.lost
                await until(lambda: finisher._connection.lost > lost + 8, what="it was tried again and again")
            finally:
                conn.execute(end)
            await until(lambda: finisher.idle, what="all is recorded")
            assert finisher.unrecorded is None

    asyncio.run(run())
    assert not [text for text in told(caplog, logging.ERROR) if "no luck" not in text]
    after = {
        Verdict.SUCCEEDED: "succeeded",
        Verdict.RETRY: "scheduled",
        Verdict.RELEASE: "queued",
        Verdict.DEAD: "dead",
    }
    states: dict[str, str] = dict(conn.execute("select id::text, state::text from pgqueue.jobs").fetchall())
    assert states == {job.id: after[kind] for job, kind in zip(jobs, kinds, strict=True)}


def test_a_row_that_nothing_can_change_does_not_hold_up_the_others(
    app: App, conn: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's own foreign key or trigger on one job: the error is of that row, though it is not of its values."""
    for _ in range(20):
        app.enqueue("t")
    hands = Hands(conn, app.queries)
    jobs = hands.claim()
    conn.execute(
        "create function pgqueue.keep() returns trigger language plpgsql as "
        f"$$ begin if old.id = '{jobs[3].id}' then perform 1 from nowhere; end if; return coalesce(new, old); end $$"
    )
    conn.execute(
        "create trigger keep before delete or update on pgqueue.job for each row execute function pgqueue.keep()"
    )

    async def run() -> Finisher:
        async with finishing(app.dsn, app.queries, hands.id) as (finisher, outcome_queue):
            outcome_queue.deliver([ended(job, Verdict.SUCCEEDED, result="1") for job in jobs])
            await until(lambda: finisher.idle, what="all that can be written is written")
        return finisher

    try:
        finisher = asyncio.run(run())
    finally:
        conn.execute("drop function pgqueue.keep() cascade")
    assert finisher.counts["succeeded"] == 19
    assert finisher.unrecorded == 'could not record the end of 1 job: relation "nowhere" does not exist'
    assert "until it is rescued" in told(caplog, logging.ERROR)[0]


# -- whole workers --

Start = Callable[..., Worker]


def errors(conn: psycopg.Connection) -> dict[str, str]:
    """The last error of each job, by its argument."""
    found = conn.execute("select args, attempt.error from pgqueue.jobs join pgqueue.attempt on job_id = id")
    return {json.loads(args)[0]: error for args, error in found if args != "[]"}


def test_delays_of_every_kind_of_number_are_heeded_beside_failures(
    start_worker: Start, conn: psycopg.Connection, task_app: App
) -> None:
    for kind in hostile_tasks.ASKS:
        hostile_tasks.ask_for.defer(kind)
        hostile_tasks.fail_with.defer("unprintable")
    for task in hostile_tasks.waits.values():
        task.defer()
    start_worker("-c", "2", app="tests.hostile_tasks").ready()
    busy = "select count(*) from pgqueue.job where state in ('queued', 'running')"
    eventually(lambda: conn.execute(busy).fetchone() == (0,), what="each attempt's end is recorded")
    counted = "select state::text, count(*) from pgqueue.jobs group by state"
    odd = len(hostile_tasks.ASKS)
    assert dict(conn.execute(counted).fetchall()) == {"scheduled": odd + len(hostile_tasks.WAITS), "dead": odd}
    refused = {
        kind: error for kind, error in errors(conn).items() if kind in hostile_tasks.ASKS and "Retry" not in error
    }
    assert refused == {
        "text": "TypeError: delay takes seconds or a timedelta, not a str",
        "bool": "TypeError: delay takes seconds or a timedelta, not a bool",
        "nan": "ValueError: delay takes seconds or a timedelta, not NaN",
        "retry nan": "ValueError: delay takes seconds or a timedelta, not NaN",
        "retry list": "TypeError: delay takes seconds or a timedelta, not a list",
    }
    late = "select args, extract(epoch from run_at - now()) from pgqueue.job where task like '%ask_for'"
    delays = {json.loads(args)[0]: float(delay_s) for args, delay_s in conn.execute(late)}
    assert all(200 < delays[kind] <= 400 for kind in delays.keys() - {"endless", "long int"})
    assert delays["endless"] > 86_400 < delays["long int"]


def test_a_progress_report_that_met_trouble_is_written_all_the_same(app: App, conn: psycopg.Connection) -> None:
    """A task may report once and be silent for an hour."""
    app.enqueue("t")
    hands = Hands(conn, app.queries)
    (job,) = hands.claim()
    waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"

    async def run() -> None:
        async with finishing(app.dsn, app.queries, hands.id) as (_, outcome_queue):
            with psycopg.connect(app.dsn) as other:
                other.execute("select from pgqueue.job for update")
                outcome_queue.report(job.id, job.token, 0.5, "half")
                await until(lambda: conn.execute(waiting).fetchone(), what="it is being written")
                conn.execute(f"select pg_terminate_backend(pid) from ({waiting}) as busy")
            seen = "select progress, progress_note from pgqueue.job"
            await until(lambda: conn.execute(seen).fetchone() == (0.5, "half"), what="the report is seen")

    asyncio.run(run())


def test_jobs_that_end_in_crowds_share_statements(task_app: App, conn: psycopg.Connection) -> None:
    """As fast as the database answers there would be one for every two milliseconds."""
    tasks.echo.defer_many((n,) for n in range(1000))
    hands = Hands(conn, task_app.queries)
    jobs = hands.claim()
    assert len(jobs) == 1000

    async def run() -> float:
        async with finishing(task_app.dsn, task_app.queries, hands.id) as (finisher, outcome_queue):
            began = time.monotonic()
            for first in range(0, len(jobs), CROWD):
                outcome_queue.deliver(
                    [ended(job, Verdict.SUCCEEDED, result="1") for job in jobs[first : first + CROWD]]
                )
                await asyncio.sleep(0.001)
            while not finisher.idle:  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0)
            return time.monotonic() - began

    elapsed_s = asyncio.run(run())
    ((statements, count),) = conn.execute(
        "select count(distinct finished_at), count(*) from pgqueue.history"
    ).fetchall()
    assert count == 1000 and statements <= elapsed_s / GATHER_S + 1


def test_progress_of_every_kind_of_number_is_seen_and_the_wrong_is_refused_where_it_is_reported(
    start_worker: Start, conn: psycopg.Connection, task_app: App, tmp_path: Path
) -> None:
    for kind in hostile_tasks.FRACTIONS:
        hostile_tasks.report_oddly.defer(kind, str(tmp_path / "go"))
    wrong = ["text", "bool", "nan", "large", "decimal nan", "list", "long int"]
    for kind in wrong:
        hostile_tasks.report_wrongly.options(priority=1).defer(kind)
    start_worker("-c", "1", "--threads", "8", app="tests.hostile_tasks").ready()
    seen = "select args, progress, progress_note from pgqueue.job where progress_note is not null"
    eventually(lambda: len(conn.execute(seen).fetchall()) == len(hostile_tasks.FRACTIONS), what="all is seen")
    reports = {json.loads(args)[0]: (progress, note) for args, progress, note in conn.execute(seen)}
    assert reports.pop("int") == (1.0, "5") and reports.pop("none")[0] is None
    assert set(reports.values()) == {(0.5, "\\x00 \\udcff \u20ac")}
    (tmp_path / "go").touch()
    eventually(
        lambda: conn.execute("select not exists (select from pgqueue.job)").fetchone() == (True,), what="the end"
    )
    said = errors(conn)
    assert said.keys() == set(wrong)
    assert all(error.startswith("ValueError: progress takes a fraction from 0 to 1, not ") for error in said.values())


@pytest.fixture
def latin1(server_dsn: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database that cannot hold every text, or does not look at what it holds."""
    name = f"pgqueue_text_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(
            f"create database {name} encoding '{getattr(request, 'param', 'LATIN1')}' template template0 locale 'C'"
        )
        dsn = make_conninfo(server_dsn, dbname=name)
        own = App(dsn)
        own.migrate()
        own.close()
        yield dsn
        admin.execute(f"drop database {name} with (force)")


def test_a_text_that_the_database_cannot_hold_concerns_its_own_job_only(start_worker: Start, latin1: str) -> None:
    app = App(latin1)
    kinds = ["return", "raise", "neither"] * 10
    for kind in kinds:
        app.enqueue("tests.hostile_tasks.say_euro", [kind])
    worker = start_worker("-c", "2", "--burst", app="tests.hostile_tasks", dsn=latin1)
    assert worker.wait() == 0, worker.output
    with psycopg.connect(latin1, autocommit=True, client_encoding="utf8") as conn:
        counted = "select args::json ->> 0, state::text, count(*) from pgqueue.jobs group by 1, 2 order by 1"
        assert conn.execute(counted).fetchall() == [
            ("neither", "succeeded", 10), ("raise", "dead", 10), ("return", "dead", 10),
        ]  # fmt: skip
        said = errors(conn)
    app.close()
    assert said["raise"] == "ValueError: 100 \\u20ac"
    assert said["return"].startswith(
        "the task succeeded, but its result could not be recorded: the database refused it ("
    )
    assert "it is left out" not in worker.output  # a note of progress is written with escapes
    assert "Traceback" not in worker.output


@pytest.mark.parametrize("latin1", ["SQL_ASCII"], indirect=True)
def test_a_job_that_cannot_be_claimed_is_set_aside_and_stops_no_other(start_worker: Start, latin1: str) -> None:
    app = App(latin1)
    ids = [app.enqueue("tests.tasks.echo", [number]).id for number in range(40)]
    with psycopg.connect(latin1, autocommit=True, client_encoding="utf8") as conn:
        conn.execute("update pgqueue.job set args = convert_from('\\xe9', 'SQL_ASCII') where id = %s", [ids[7]])
        conn.execute("update pgqueue.job set attempt = 2147483647 where id = %s", [ids[20]])
        conn.execute("update pgqueue.job set claim_token = 9223372036854775807 where id = %s", [ids[21]])
    worker = start_worker("-c", "2", "--burst", dsn=latin1)
    assert worker.wait() == 0, worker.output
    app.close()
    with psycopg.connect(latin1, autocommit=True, client_encoding="utf8") as conn:
        states: dict[str, str] = dict(conn.execute("select id::text, state::text from pgqueue.jobs").fetchall())
        causes = {error for (error,) in conn.execute("select error from pgqueue.attempt")}
    dead = {ids[7], ids[20], ids[21]}
    assert states == {id_: "dead" if id_ in dead else "succeeded" for id_ in ids}
    assert len(causes) == 3 and all(
        cause.startswith("this job cannot be claimed: the database refused") for cause in causes
    )
    assert worker.output.count("it cannot be claimed") == 3


def test_a_burst_tells_by_its_exit_code_what_it_could_not_record(
    start_worker: Start, conn: psycopg.Connection, task_app: App
) -> None:
    jobs = tasks.echo.defer_many((number,) for number in range(40))
    conn.execute(
        "create function pgqueue.keep() returns trigger language plpgsql as "
        f"$$ begin if old.id = '{jobs[3].id}' then raise 'not this one'; end if; return old; end $$"
    )
    conn.execute("create trigger keep before delete on pgqueue.job for each row execute function pgqueue.keep()")
    try:
        worker = start_worker("-c", "2", "--burst")
        assert worker.wait() == 1
    finally:
        conn.execute("drop function pgqueue.keep() cascade")
    assert worker.lines[-1] == "pgqueue: could not record the end of 1 job: not this one"
    assert "Traceback" not in worker.output
    states: dict[str, str] = dict(conn.execute("select id::text, state::text from pgqueue.jobs").fetchall())
    assert states == {job.id: "running" if job.id == jobs[3].id else "succeeded" for job in jobs}


WORKER = Path(pgqueue.__file__).parent / "worker"


class RefusedOnce:
    """Statements of breakers, each with one value after the other that no statement takes, and then as they are."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.refused: set[tuple[str, str]] = set()

    def count_runs(self, **given: Any) -> Statement[Any]:
        return self._once("count_runs", self._queries.count_runs(**given))

    def trip(self, gates: Sequence[str]) -> Statement[Any]:
        return self._once("trip", self._queries.trip(gates))

    def _once(self, name: str, statement: Statement[Any]) -> Statement[Any]:
        for place in statement.params:
            if (name, place) not in self.refused:
                self.refused.add((name, place))
                return dataclasses.replace(statement, params={**statement.params, place: object()})
        return statement


@pytest.mark.long
def test_runs_that_could_not_be_counted_for_a_breaker_are_counted_later(app: App, conn: psycopg.Connection) -> None:
    app.task(name="call", breaker=Breaker(1.0, of=4, per=60, rest=100))(lambda: None)
    app.run(app.queries.declare_gates([rule.as_json() for rule in app.rules()]))
    refusing: Any = RefusedOnce(app.queries)

    async def run() -> None:
        connection = WorkConnection(app.dsn, app.queries, name="counting", troubles=TroubleLog())
        breakers = Breakers(connection, refusing, Wakeups(Identity(str(uuid.uuid4()))))
        breakers.gates = frozenset({"task:call"})
        running = asyncio.create_task(breakers.run())
        for _ in range(4):
            breakers.count(["task:call"], Outcome("", 0, Verdict.RETRY, cause="exception"))
        closed = "select closed_by = 'the breaker' from pgqueue.gate where name = 'task:call'"
        await until(lambda: conn.execute(closed).fetchone() == (True,), what="the gate is closed")
        running.cancel()
        await asyncio.wait([running])
        await connection.close()

    asyncio.run(run())
    assert refusing.refused == {
        *(("count_runs", place) for place in ("worker", "gates", "runs", "failures")), ("trip", "gates")
    }  # fmt: skip


NOT_SAID = {
    "register": "said once, before any job is taken: a refusal ends the worker with its message",
    "connections_allowed": "as register",
    "steady_plans": "without a value",
    "lock_patience": "without a value",
    "prune": "without a value",
    "recorded": "after a lost answer: test_outcomes",
    "revoke": "after a lost answer: above",
    "hand_back": "during a deploy: above",
    "set_aside": "for a job that cannot be claimed: above",
    "suspect": "for a worker without a session: test_workers",
    "drained": "in a burst: above",
    "partitions": "in a transaction of tidy",
    "held": "every five minutes, or after a lost connection",
    "declare_gates": "at the start, of an app with limits: tests/gates",
    "count_runs": "of tasks with a breaker: above",
    "trip": "as count_runs",
}


def statements_of_the_worker() -> set[tuple[str, str]]:
    """Each value of each statement that some part of the supervisor says, from the sources: a new one cannot be forgotten."""
    said = set()
    for path in WORKER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute | ast.Name):
                of = node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id
                if of in ("_queries", "queries") and path.name != "executor.py":
                    said.add(node.attr)
    sql = Path(pgqueue.__file__).parent / "sql"
    return {
        (file.stem, place)
        for room in ("worker", "lease", "ops", "schema")
        for file in (sql / room).rglob("*.sql")
        if file.stem in said
        for place in re.findall(r"%\((\w+)\)s", file.read_text())
    }


def test_each_value_of_each_statement_may_be_refused(
    start_worker: Start, conn: psycopg.Connection, task_app: App, tmp_path: Path
) -> None:
    """A whole worker goes on: every job ends as it would have, none is charged for it, and it signs out."""
    wanted = {(name, place) for name, place in statements_of_the_worker() if name not in NOT_SAID}
    assert {name for name, _ in wanted} >= {
        "claim",
        "finish",
        "settle",
        "progress",
        "beat",
        "sleep",
        "promote",
        "heads",
    }
    dead = Hands(conn, task_app.queries)
    lost = tasks.echo.defer("lost")
    dead.claim()
    conn.execute("update pgqueue.worker set lease_until = now() - interval '1 hour'")
    # One that waits at a gate that nobody knows; beside a worker from before gates the sweep comes each second.
    ((waiting,),) = conn.execute("select pgqueue.enqueue('tests.tasks.echo', '[\"waits\"]', key => 'nobody=1')")
    old = Hands(conn, task_app.queries)
    conn.execute("update pgqueue.worker set schedules = null where id = %s", [old.id])
    running = tasks.report.defer(str(tmp_path / "go"))
    worker = start_worker("-c", "2", program="tests.faults.refusing").ready()
    refused: set[tuple[str, str]] = set()

    def told() -> set[tuple[str, str]]:
        lines = [line for line in worker.lines if line.startswith("refused: ")]
        places = [line.removeprefix("refused: ").split(".") for line in lines]
        return {(statement, place) for statement, place in places}

    jobs = []
    deadline = time.monotonic() + 150
    while (left := wanted - told()) - {("depart", "worker")} and time.monotonic() < deadline:
        jobs += [
            tasks.echo.defer(1),
            tasks.fail_until.defer(2),
            tasks.echo_later.defer(2),
            tasks.report.defer(__file__),
        ]
        time.sleep(0.2)
    assert left <= {("depart", "worker")}
    (tmp_path / "go").touch()
    for job in (*jobs, running, lost):
        job.result(60)
    assert worker.stop() == 0, worker.output
    refused = told()
    assert refused >= wanted
    assert "Traceback" not in worker.output
    assert conn.execute("select id, state::text from pgqueue.job").fetchall() == [(waiting, "waiting")]
    attempts = "select cause, count(*) from pgqueue.attempt group by 1"
    assert dict(conn.execute(attempts).fetchall()) == {"exception": len(jobs) // 4, "worker lost": 1}
