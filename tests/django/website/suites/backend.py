"""Django's Tasks in the process that enqueues: one INSERT in the caller's transaction, and results read back."""

import asyncio
import math
import uuid
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from unittest import mock

import django
import psycopg
from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.db import connection, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.utils import timezone

import pgqueue
from pgqueue.contrib.django import results, signals
from pgqueue.contrib.django.api import (
    InvalidTask,
    InvalidTaskBackend,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_enqueued,
    task_finished,
)
from pgqueue.contrib.django.checks import check_schema
from pgqueue.errors import InvalidArguments, InvalidOption
from pgqueue.job import Outcome, Verdict
from pgqueue.testing import drain
from pgqueue.worker.child.executor import describe, format_trace
from tests.django.website.shop.errors import SoldOut

tasks: Any = import_module("tests.django.website.shop.tasks")
BACKEND = "pgqueue.contrib.django.Backend"


def decorated(x: str) -> str:
    return x


def imported(x: str) -> str:
    return x


def rows(
    columns: str = "id::text, task, queue, priority, args, kwargs, max_attempts, timeout_s",
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"select {columns} from pgqueue.job order by seq")
        return list(cursor.fetchall())


def change(**columns: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"update pgqueue.job set {', '.join(f'{name} = %s' for name in columns)}", list(columns.values())
        )


def attempts_of(task: Any) -> int:
    policy = pgqueue.app.tasks[task.module_path].policy
    return next(
        attempt
        for attempt in range(1, 100)
        if policy.next_delay_s(ValueError(), attempt=attempt, max_attempts=None, age_s=0) is None
    )


class Enqueue(TestCase):
    def test_a_job_is_one_statement_also_the_first_of_a_process(self) -> None:
        with self.assertNumQueries(1):
            result = tasks.add.enqueue(1, y=2)
        self.assertEqual(rows(), [(result.id, tasks.add.module_path, "default", 0, "[1]", '{"y":2}', None, None)])

    def test_what_it_returns_is_what_is_read(self) -> None:
        result = tasks.send.enqueue("me")
        with self.assertNumQueries(1):
            read = tasks.send.get_result(result.id)
        self.assertEqual((result.status, read.status), (TaskResultStatus.READY, TaskResultStatus.READY))
        self.assertEqual((read.task, read.args, read.kwargs, read.backend), (tasks.send, ["me"], {}, "default"))
        self.assertEqual((read.errors, read.worker_ids, read.attempts), ([], [], 0))
        self.assertIsNone(read.started_at or read.finished_at or read.last_attempted_at)
        assert result.enqueued_at and read.enqueued_at
        self.assertLess(abs(result.enqueued_at - read.enqueued_at), timedelta(seconds=5))
        self.assertFalse(read.is_finished)
        with self.assertRaisesRegex(ValueError, "not finished"):
            _ = read.return_value

    def test_priority_and_queue_are_those_of_the_task_or_of_using(self) -> None:
        tasks.send.enqueue("me")
        tasks.send.using(priority=-100, queue_name="default").enqueue("you")
        self.assertEqual(rows("queue, priority"), [("mail", 7), ("default", -100)])

    def test_options_of_ours(self) -> None:
        changed = tasks.send.using(max_attempts=4, timeout=timedelta(minutes=1), priority=3)
        self.assertEqual((changed.max_attempts, changed.priority, changed.queue_name), (4, 3, "mail"))
        changed.enqueue("me")
        tasks.fails.enqueue("builtin")  # of the backend with TIMEOUT
        self.assertEqual(rows("max_attempts, timeout_s, priority"), [(4, 60, 3), (None, 30, 0)])
        self.assertEqual(attempts_of(tasks.fails), 2)
        with self.assertRaisesRegex(InvalidOption, "max_attempts=0 is out of range"):
            tasks.send.using(max_attempts=0).enqueue("me")

    def test_options_of_ours_in_the_decorator_where_django_hands_them_on(self) -> None:
        def define() -> Any:
            return tasks.task(max_attempts=5, timeout=9)(decorated)

        if django.VERSION[:2] == (6, 0):
            self.assertRaises(TypeError, define)
            return
        made = define()
        self.assertEqual(attempts_of(made), 5)
        made.enqueue("x")
        made.using(max_attempts=6).enqueue("x")
        self.assertEqual(rows("max_attempts, timeout_s"), [(None, 9), (6, 9)])

    def test_run_after(self) -> None:
        later = timezone.now() + timedelta(hours=3)
        result = tasks.add.using(run_after=later).enqueue(1)
        self.assertEqual(rows("state::text, run_at"), [("scheduled", later)])
        read = tasks.add.get_result(result.id)
        self.assertEqual((read.status, read.task.run_after), (TaskResultStatus.READY, later))
        with self.assertRaisesRegex(InvalidTask, "aware"):
            tasks.add.using(run_after=datetime(2030, 1, 1))

    def test_every_flag(self) -> None:
        backend = task_backends["default"]
        flags = ("defer", "async_task", "get_result", "priority")
        self.assertTrue(all(getattr(backend, f"supports_{flag}") for flag in flags))

    def test_queues(self) -> None:
        with self.assertRaisesRegex(InvalidTask, "Queue 'elsewhere' is not valid"):
            tasks.add.using(queue_name="elsewhere")
        tasks.fails.using(queue_name="any at all").enqueue("x")
        with self.assertRaisesRegex(InvalidOption, "queue must not be empty nor begin or end with a space"):
            tasks.fails.using(queue_name=" no").enqueue("x")

    def test_signal(self) -> None:
        heard: list[Any] = []

        def hear(sender: Any, task_result: Any, **_: Any) -> None:
            heard.append((sender, task_result.id, task_result.status))
            raise RuntimeError("what a receiver raises is not the caller's")

        task_enqueued.connect(hear)
        try:
            with self.assertLogs("django.dispatch", "ERROR"):
                result = tasks.add.enqueue(1)
        finally:
            task_enqueued.disconnect(hear)
        self.assertEqual(heard, [(type(task_backends["default"]), result.id, "READY")])

    def test_secret_arguments_are_marked(self) -> None:
        result = tasks.send.enqueue("me", "hunter2")
        self.assertIn("pgqueue.redact", rows("headers")[0][0])
        self.assertEqual(result.args, ["me", "hunter2"])


class Refusals(TestCase):
    """Before anything is written."""

    def refused(self, error: type[Exception], pattern: str, *args: Any, **kwargs: Any) -> None:
        with self.assertNumQueries(0), self.assertRaisesRegex(error, pattern):
            tasks.add.enqueue(*args, **kwargs)

    def test_what_is_not_json(self) -> None:
        self.refused(TypeError, "argument 1 is not JSON .*set", {1})
        self.refused(TypeError, "argument 'y' is not JSON .*object", 1, y=object())
        self.refused(TypeError, "datetime", [datetime.now(UTC)])
        self.refused(ValueError, "bytes", b"\xff")

    def test_what_cannot_be_stored(self) -> None:
        self.refused(InvalidArguments, "argument x is NaN", math.nan)
        self.refused(InvalidArguments, "argument x is NaN or inf", math.inf)
        self.refused(InvalidArguments, "argument x.*NUL", "a\0b")
        self.refused(InvalidArguments, "argument y.*surrogate", 1, {"deep": ["\ud800"]})
        self.refused(InvalidArguments, "bytes of JSON are more than the limit", "x" * 2_000_000)

    def test_a_call_that_the_function_would_refuse(self) -> None:
        self.refused(TypeError, "missing 1 required positional argument: 'x'")
        self.refused(TypeError, "unexpected keyword argument 'z'", 1, z=2)
        with self.assertRaisesRegex(TypeError, "takes 1 positional argument but 2 were given"):
            tasks.twice.enqueue("name", "too many")  # the context does not count

    def test_what_django_takes(self) -> None:
        tasks.add.enqueue((1, 2), y={"b": b"text", "t": ()})
        self.assertEqual(rows("args, kwargs"), [("[[1,2]]", '{"y":{"b":"text","t":[]}}')])


class Results(TestCase):
    def test_none(self) -> None:
        for unknown in (str(uuid.uuid4()), "x", "", None, "a" * 32, "0" * 100):
            with self.assertRaises(TaskResultDoesNotExist):
                task_backends["default"].get_result(unknown)  # type: ignore[arg-type]

    def test_an_id_in_capitals_is_the_same(self) -> None:
        result = tasks.add.enqueue(1)
        self.assertEqual(tasks.add.get_result(result.id.upper()).id, result.id)

    def test_of_another_task(self) -> None:
        result = tasks.send.enqueue("me")
        with self.assertRaisesRegex(Exception, "Task does not match"):
            tasks.add.get_result(result.id)

    def test_of_a_task_that_is_not_of_django(self) -> None:
        job = tasks.native.defer(1)
        with self.assertRaises(TaskResultDoesNotExist):
            task_backends["default"].get_result(job.id)

    def test_the_native_api_takes_the_same_ids(self) -> None:
        result = tasks.add.enqueue(1)
        job = pgqueue.app.job(result.id)
        self.assertEqual(job.snapshot().task, tasks.add.module_path)
        self.assertTrue(job.cancel("not needed"))
        result.refresh()
        self.assertEqual((result.status, result.is_finished), (TaskResultStatus.FAILED, True))
        (error,) = result.errors
        self.assertEqual((error.exception_class, error.traceback), (pgqueue.JobCancelled, "not needed"))
        assert result.finished_at
        with self.assertRaisesRegex(ValueError, "Task failed"):
            _ = result.return_value

    def test_states(self) -> None:
        result = tasks.add.enqueue(1)
        for state, status in {
            "waiting": "READY",
            "scheduled": "READY",
            "queued": "READY",
            "running": "RUNNING",
        }.items():
            change(state=state, worker=str(uuid.uuid4()))
            result.refresh()
            self.assertEqual(result.status, status)
        self.assertEqual(len(result.worker_ids), 1)

    def test_options_that_django_would_not_take(self) -> None:
        result = tasks.add.enqueue(1)
        change(priority=20_000, queue="of somebody else")
        self.assertEqual(tasks.add.get_result(result.id).task, tasks.add)

    def test_arguments_that_somebody_wrote_by_hand(self) -> None:
        result = tasks.add.enqueue(1)
        change(args='{"x": 1}', kwargs="[1]")
        read = tasks.add.get_result(result.id)
        self.assertEqual((read.args, read.kwargs), ([], {}))


class Async(TestCase):
    async def test_each_has_its_own(self) -> None:
        result = await tasks.slowly.aenqueue("me")
        read = await tasks.slowly.aget_result(result.id)
        self.assertEqual((read.id, read.args), (result.id, ["me"]))
        await read.arefresh()
        self.assertEqual(read.status, TaskResultStatus.READY)

    def test_the_sync_one_is_refused_in_an_event_loop(self) -> None:
        async def enqueue() -> None:
            tasks.add.enqueue(1)

        self.assertRaises(SynchronousOnlyOperation, asyncio.run, enqueue())


class Kit(TestCase):
    """The kit of pgqueue.testing runs Django's tasks in the transaction of the test."""

    def test_drain(self) -> None:
        added, failed = tasks.add.enqueue(2, 3), tasks.fails.enqueue("builtin")
        context, later = (
            tasks.context_of_sync.enqueue(),
            tasks.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1),
        )
        ran = drain(conn=connection, raises=False)
        self.assertEqual(len(ran), 3)
        for result in (added, failed, context, later):
            result.refresh()
        self.assertEqual((added.return_value, added.attempts), (5, 1))
        self.assertEqual((failed.status, failed.errors[0].exception_class), (TaskResultStatus.READY, ValueError))
        self.assertEqual(context.return_value, [1, context.id, "RUNNING"])
        self.assertEqual(later.status, TaskResultStatus.READY)

    def test_drain_of_an_async_task(self) -> None:
        result = tasks.context_of.enqueue()
        drain(conn=connection)
        result.refresh()
        self.assertEqual(result.return_value, [1, result.id, "RUNNING"])


class Finished(TestCase):
    """What task_finished says of each verdict."""

    def heard(self, verdict: Verdict, *, cancel_requested: bool = False, **fields: Any) -> list[tuple[Any, list[str]]]:
        told: list[tuple[Any, list[str]]] = []

        def hear(task_result: Any, **_: Any) -> None:
            told.append((task_result.status, [error.exception_class.__name__ for error in task_result.errors]))

        result = tasks.add.enqueue(1)
        job = mock.Mock(cancel_requested=cancel_requested, exception=None)
        task_finished.connect(hear)
        try:
            signals._finish(tasks.add, result, job, Outcome(result.id, 1, verdict, **fields))
        finally:
            task_finished.disconnect(hear)
        return told

    def test_each_verdict(self) -> None:
        error: dict[str, Any] = {"cause": "exception", "error": "ValueError: x"}
        for verdict, fields, told in (
            (Verdict.SUCCEEDED, {"result": "1"}, [("SUCCESSFUL", [])]),
            (Verdict.RETRY, error, [("READY", ["ValueError"])]),
            (Verdict.SNOOZE, {}, [("READY", [])]),
            (Verdict.DEAD, error, [("FAILED", ["ValueError"])]),
            (Verdict.CANCELLED, {"error": "why"}, [("FAILED", ["JobCancelled"])]),
        ):
            self.assertEqual(self.heard(verdict, **fields), told)

    def test_none_of_what_another_worker_tells(self) -> None:
        for verdict in (Verdict.LOST, Verdict.MISFIT, Verdict.RELEASE, Verdict.UNSURE):
            self.assertEqual(self.heard(verdict), [])

    def test_a_cancel_that_was_asked_for_ends_a_job_that_would_run_again(self) -> None:
        error: dict[str, Any] = {"cause": "exception", "error": "ValueError: x"}
        told = [("FAILED", ["ValueError", "JobCancelled"])]
        self.assertEqual(self.heard(Verdict.RETRY, cancel_requested=True, **error), told)
        self.assertEqual(self.heard(Verdict.SUCCEEDED, cancel_requested=True, result="1"), [("SUCCESSFUL", [])])

    def test_a_job_of_another_database_is_named(self) -> None:
        job = mock.Mock(id=str(uuid.uuid4()), task="shop.tasks.add")
        with self.assertRaisesRegex(
            pgqueue.ConfigError, "is not in 'default', the database of TASKS: run the worker on"
        ):
            signals._start(tasks.add, job)


class Transactions(TransactionTestCase):
    def tearDown(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("truncate pgqueue.job")

    def seen_by_others(self) -> int:
        parameters = connection.get_connection_params()
        with psycopg.connect(**{name: parameters[name] for name in ("dbname", "user", "host", "port")}) as other:
            (count,) = other.execute("select count(*) from pgqueue.job").fetchone() or (None,)
        return int(str(count))

    def test_the_job_is_there_exactly_if_the_transaction_commits(self) -> None:
        with transaction.atomic(durable=True):
            tasks.add.enqueue(1)
            with self.assertRaises(SoldOut), transaction.atomic():
                tasks.add.enqueue(2)
                raise SoldOut
            self.assertEqual((self.seen_by_others(), len(rows())), (0, 1))
        self.assertEqual(self.seen_by_others(), 1)
        with self.assertRaises(SoldOut), transaction.atomic():
            tasks.add.enqueue(3)
            raise SoldOut
        self.assertEqual(self.seen_by_others(), 1)
        tasks.add.enqueue(4)  # outside of any
        self.assertEqual(self.seen_by_others(), 2)

    def test_in_a_broken_one_django_says_so(self) -> None:
        with self.assertRaises(transaction.TransactionManagementError), transaction.atomic():
            transaction.set_rollback(True)
            tasks.add.enqueue(1)

    @override_settings(USE_TZ=False, TIME_ZONE="Asia/Tokyo")
    def test_without_time_zones(self) -> None:
        later = datetime(2031, 2, 3, 4, 5)
        result = tasks.add.using(run_after=later).enqueue(1)
        with psycopg.connect(
            **{k: connection.get_connection_params()[k] for k in ("dbname", "user", "host", "port")}
        ) as other:
            (run_at,) = other.execute("select run_at from pgqueue.job").fetchone() or (None,)
        self.assertEqual(run_at, datetime(2031, 2, 2, 19, 5, tzinfo=UTC))
        read = tasks.add.get_result(result.id)
        assert read.enqueued_at and read.task.run_after and result.enqueued_at
        self.assertEqual(read.task.run_after, later)
        self.assertLess(abs(read.enqueued_at - result.enqueued_at), timedelta(seconds=5))


class Options(SimpleTestCase):
    def wrong(self, pattern: str, error_id: str, **options: Any) -> None:
        with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": options}}):
            backend: Any = task_backends["default"]
            (error,) = backend.check()
            self.assertRegex(error.msg, pattern)
            self.assertEqual((error.id, error.is_serious()), (error_id, True))
            with self.assertRaisesRegex(InvalidTaskBackend, pattern):
                tasks.add.enqueue(1)

    def test_each_that_is_wrong_is_named(self) -> None:
        self.wrong("OPTIONS has 'MAX_ATTEMPT', .* did you mean 'MAX_ATTEMPTS'", "pgqueue.E101", MAX_ATTEMPT=1)
        self.wrong("OPTIONS has 'x', .* there are DATABASE, KEEP", "pgqueue.E101", x=1)
        self.wrong("OPTIONS: max_attempts=0 is out of range", "pgqueue.E102", MAX_ATTEMPTS=0)
        self.wrong("OPTIONS: timeout takes seconds", "pgqueue.E102", TIMEOUT="1 min")
        self.wrong("OPTIONS has KEEP=0, and get_result must find", "pgqueue.E103", KEEP=0)
        self.wrong("OPTIONS has KEEP=9", "pgqueue.E103", KEEP=9)
        self.wrong(
            "database is 'nowhere', by PGQUEUE or TASKS, and DATABASES has default", "pgqueue.E104", DATABASE="nowhere"
        )

    def test_no_dict(self) -> None:
        with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": ["MAX_ATTEMPTS"]}}):
            (error,) = task_backends["default"].check()
            self.assertRegex(error.msg, "OPTIONS takes a dict, not a list")

    def test_a_task_whose_backend_is_wrong_can_still_be_imported(self) -> None:
        """Or `manage.py check` would end in a traceback, and say nothing."""
        with override_settings(TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": {"MAX_ATTEMPTS": "many"}}}):
            tasks.task(imported)


def outer() -> type[Exception]:
    class Local(Exception):
        pass

    return Local


class ClassPaths(SimpleTestCase):
    """As a worker stores an error, its class is found again."""

    def found(self, error: BaseException) -> str:
        try:
            raise error
        except BaseException as raised:
            return results.class_path("exception", describe(raised), format_trace(raised))

    def path(self, kind: type[BaseException]) -> str:
        return f"{kind.__module__}.{kind.__qualname__}"

    def test_of_whatever_is_raised(self) -> None:
        noted = SoldOut("once")
        noted.add_note("tests.other.SoldOut: once")
        for error in (
            ValueError("x"),
            ValueError(),
            KeyError("x"),
            SoldOut(),
            SoldOut("two\nlines"),
            SoldOut("with: colons"),
            SoldOut("ValueError: told"),
            SoldOut.Forever("a" * 5000),
            noted,
            outer()("x"),
            pgqueue.Retry(),
            pgqueue.JobDead("x", "", ""),
            ValidationError({"name": ["x"]}),
            ExceptionGroup("many", [SoldOut("one")]),
            SyntaxError("bad"),
            KeyboardInterrupt(),
            psycopg.errors.UniqueViolation("twice"),
            UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        ):
            self.assertEqual(self.found(error), self.path(type(error)))

    def test_of_one_with_a_cause(self) -> None:
        try:
            try:
                raise KeyError("cause")
            except KeyError as cause:
                raise SoldOut("effect") from cause
        except SoldOut as error:
            self.assertEqual(self.found(error), self.path(SoldOut))

    def test_of_what_has_no_traceback(self) -> None:
        for cause, error, path in (
            ("time limit", "TimeLimitExceeded: over", "pgqueue.errors.TimeLimitExceeded"),
            ("time limit", "the timeout of 1 s was over", "pgqueue.errors.TimeLimitExceeded"),
            ("arguments", "SignatureChanged: x", "pgqueue.errors.SignatureChanged"),
            ("result", "ResultRefused: x", "pgqueue.retry.ResultRefused"),
            ("crash", "the process running it was killed: by 9", "pgqueue.errors.JobError"),
            ("worker lost", "the worker running it was declared dead", "pgqueue.errors.LeaseLost"),
            ("refused", "something", "pgqueue.errors.JobError"),
        ):
            self.assertEqual(results.class_path(cause, error, ""), path)


class Warnings(SimpleTestCase):
    databases = {"default"}

    def ids(self) -> list[str]:
        return [str(warning.id) for warning in task_backends["default"].check()]

    def test_none_in_most_projects(self) -> None:
        self.assertEqual(self.ids(), [])

    def test_a_router_that_writes_elsewhere(self) -> None:
        class Router:
            def db_for_write(self, model: Any, **_: Any) -> str | None:
                return "other" if model._meta.app_label == "auth" else None

        with override_settings(DATABASE_ROUTERS=[Router()]):
            (warning,) = task_backends["default"].check()
        self.assertEqual(warning.id, "pgqueue.W101")
        self.assertRegex(warning.msg, r"routers write auth\.\w+, auth\.\w+, auth\.\w+( and \d more)? to 'other'")

    def test_a_pooler(self) -> None:
        with mock.patch.dict(connection.settings_dict, {"DISABLE_SERVER_SIDE_CURSORS": True}):
            self.assertEqual(self.ids(), ["pgqueue.W102"])
        with mock.patch.dict(connection.settings_dict, {"PORT": "6432"}):
            self.assertEqual(self.ids(), ["pgqueue.W102"])


class Schema(TestCase):
    def found(self, statement: str, *values: Any) -> list[tuple[str | None, bool]]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
        self.assertEqual(check_schema(databases=["other"]) + check_schema(), [])
        return [(message.id, message.is_serious()) for message in check_schema(databases=["default"])]

    def test_as_this_code_needs_it(self) -> None:
        self.assertEqual(self.found("select 1"), [])

    def test_old_is_for_migrate_to_cure(self) -> None:
        newest = "delete from pgqueue.migration where version = (select max(version) from pgqueue.migration)"
        self.assertEqual(self.found(newest), [("pgqueue.W002", False)])

    def test_too_new_for_this_code(self) -> None:
        new = "insert into pgqueue.migration (version, name, works_with) values (999, 'x', 999)"
        self.assertEqual(self.found(new), [("pgqueue.E002", True)])
