"""What surrounds a job in its child: the order, what it sees, and what becomes of an exception in it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from pgqueue import App, Cancel, ConfigError, CurrentJob, Outcome, Retry, Snooze, Verdict, current_job
from pgqueue.worker.child.executor import Attempt
from tests.untyped import untyped
from tests.worker.parts import claimed

Around = Generator[None, Outcome, None]
AroundAsync = AsyncGenerator[None, Outcome]


def current(job: Any) -> CurrentJob:
    return CurrentJob(job.id, job.token, job.task, job.queue, job.attempt, {}, lambda fraction, note: None)


def outcome_of(app: App, name: str, **columns: Any) -> Outcome:
    """Run one job as a child does."""
    job = claimed(task=name, **columns)
    attempt = Attempt(job, app.tasks[name], current(job), worker="w")
    assert attempt.task.middleware
    if attempt.task.is_async:
        return asyncio.run(attempt.execute_inside_async(untyped(None)))
    return attempt.execute_inside(untyped(None))


@pytest.fixture
def app() -> App:
    return App()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_first_is_the_outermost_and_all_see_the_outcome(app: App, kind: str) -> None:
    seen: list[object] = []

    def noting(name: str) -> Callable[[CurrentJob], Around]:
        def around(job: CurrentJob) -> Around:
            seen.append((name, job.id, list(job.args), job.kwargs, job.attempt))
            outcome = yield
            seen.append((name, outcome.verdict, outcome.result))

        return around

    async def noting_async(job: CurrentJob) -> AroundAsync:
        seen.append("async")
        outcome = yield
        seen.append(("async", outcome.verdict))

    app.middleware(noting("first"))
    if kind == "sync":

        @app.task(name="t", middleware=[noting("own")])
        def sync_task(x: int, *, y: int) -> int:
            seen.append("body")
            return x + y
    else:

        @app.task(name="t", middleware=[noting("own")])
        async def async_task(x: int, *, y: int) -> int:
            seen.append("body")
            return x + y

    app.middleware(noting("second"))  # after the task was declared
    app.middleware(noting_async)
    outcome = outcome_of(app, "t", args="[1]", kwargs='{"y": 2}', attempt=3)
    assert (outcome.verdict, outcome.result) == (Verdict.SUCCEEDED, "3")
    given, ended = ([1], {"y": 2}, 3), (Verdict.SUCCEEDED, "3")
    between: list[object] = ["async"] if kind == "async" else []
    assert seen == [
        ("first", "j1", *given), ("second", "j1", *given), *between, ("own", "j1", *given), "body", ("own", *ended),
        *[("async", Verdict.SUCCEEDED) for _ in between], ("second", *ended), ("first", *ended),
    ]  # fmt: skip


class Refused(Exception):
    pass


def raises_before(job: CurrentJob) -> Around:
    raise Refused("before")
    yield


def raises_after(job: CurrentJob) -> Around:
    yield
    raise Refused("after")


async def raises_before_async(job: CurrentJob) -> AroundAsync:
    raise Refused("before")
    yield


async def raises_after_async(job: CurrentJob) -> AroundAsync:
    yield
    raise Refused("after")


def never_yields(job: CurrentJob) -> Around:
    if job.id == "another":
        yield


async def never_yields_async(job: CurrentJob) -> AroundAsync:
    if job.id == "another":
        yield


def yields_twice(job: CurrentJob) -> Around:
    yield
    yield


async def yields_twice_async(job: CurrentJob) -> AroundAsync:
    yield
    yield


@pytest.mark.parametrize(
    ("middleware", "error", "ran"),
    [
        (raises_before, "Refused: before", False),
        (raises_before_async, "Refused: before", False),
        (raises_after, "Refused: after", True),
        (raises_after_async, "Refused: after", True),
        (never_yields, "RuntimeError: middleware tests.worker.test_middleware.never_yields returned without", False),
        (
            never_yields_async,
            "RuntimeError: middleware tests.worker.test_middleware.never_yields_async returned",
            False,
        ),
        (yields_twice, "RuntimeError: middleware tests.worker.test_middleware.yields_twice yielded twice", True),
        (yields_twice_async, "RuntimeError: middleware tests.worker.test_middleware.yields_twice_async yielded", True),
    ],
)
def test_what_it_raises_is_the_attempts(app: App, middleware: Any, error: str, ran: bool) -> None:
    bodies: list[str] = []
    told: list[tuple[str, str | None, str]] = []

    @app.middleware
    def outer(job: CurrentJob) -> Around:
        outcome = yield
        told.append((outcome.verdict, outcome.error, type(job.exception).__name__))

    app.middleware(middleware)

    @app.task(name="t", max_attempts=5)
    async def task() -> None:
        bodies.append("ran")

    outcome = outcome_of(app, "t")
    assert outcome.verdict == Verdict.RETRY and outcome.error is not None and outcome.error.startswith(error)
    assert bool(bodies) == ran
    assert told == [(Verdict.RETRY, outcome.error, outcome.error.split(":")[0])]


def test_its_traceback_begins_with_its_own_frame(app: App) -> None:
    app.middleware(raises_after)
    app.task(name="t")(lambda: None)
    trace = outcome_of(app, "t").traceback
    assert trace is not None and next(line for line in trace.splitlines() if "File" in line).endswith("in raises_after")


@pytest.mark.parametrize(
    ("verb", "verdict"),
    [(Snooze(60), Verdict.SNOOZE), (Retry(delay=5), Verdict.RETRY), (Cancel("no"), Verdict.CANCELLED)],
)
def test_it_may_decide_what_becomes_of_the_job(app: App, verb: BaseException, verdict: Verdict) -> None:
    @app.middleware
    def decide(job: CurrentJob) -> Around:
        yield
        if isinstance(job.exception, ConnectionError):
            raise verb

    @app.task(name="t")
    def task() -> None:
        raise ConnectionError("rate limit")

    assert outcome_of(app, "t").verdict == verdict


def test_an_inner_failure_does_not_keep_the_outer_ones_from_their_end(app: App) -> None:
    ends: list[str] = []

    @app.middleware
    def closing(job: CurrentJob) -> Around:
        try:
            yield
        finally:
            ends.append("closed")

    app.middleware(raises_after)
    app.middleware(raises_before)
    app.task(name="t")(lambda: None)
    outcome = outcome_of(app, "t")
    assert outcome.error == "Refused: after" and ends == ["closed"]  # the later one, of the outer


def test_arguments_that_cannot_be_read_fail_the_attempt_inside_of_it(app: App) -> None:
    told: list[tuple[object, object]] = []

    @app.middleware
    def outer(job: CurrentJob) -> Around:
        outcome = yield
        told.append((list(job.args), outcome.otherwise or outcome.verdict))

    @app.task(name="t")
    def task(x: int) -> None: ...

    assert outcome_of(app, "t", args="[1, 2, 3]").cause == "arguments"
    assert told == [([], Verdict.RETRY)]


def test_it_sees_the_context_that_the_task_sees(app: App) -> None:
    seen = []

    @app.middleware
    def outer(job: CurrentJob) -> Around:
        assert current_job() is job
        yield
        assert current_job() is job

    @app.task(name="t")
    def task(*numbers: int) -> None:
        seen.append((current_job().args, current_job().kwargs))

    assert outcome_of(app, "t", args="[1, 2]").verdict == Verdict.SUCCEEDED
    assert seen == [([1, 2], {})]


def test_nothing_of_a_failed_attempt_is_kept_alive(app: App) -> None:
    """The exception holds the frames of the task and all that is in them."""

    @app.middleware
    def outer(job: CurrentJob) -> Around:
        yield

    @app.task(name="t")
    def task() -> None:
        raise ValueError

    job = claimed(task="t")
    attempt = Attempt(job, app.tasks["t"], current(job), worker="w")
    attempt.execute_inside(untyped(None))
    assert attempt.current.exception is None


def plain(job: CurrentJob) -> None: ...


async def coroutine(job: CurrentJob) -> None: ...


def takes_two(job: CurrentJob, call_next: Any) -> Around:
    yield


@pytest.mark.parametrize(
    ("middleware", "message"),
    [
        (plain, "must be a function that yields, not <function plain"),
        (coroutine, "must be a function that yields, not <function coroutine"),
        (3, "must be a function that yields, not 3"),
        (takes_two, "middleware tests.worker.test_middleware.takes_two must take the job and no more"),
    ],
)
def test_what_is_no_middleware_is_refused_as_it_is_declared(app: App, middleware: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        app.middleware(middleware)
    with pytest.raises(ConfigError, match=message):
        app.task(name="t", middleware=[middleware])(lambda: None)
    assert app.tasks == {}


def test_async_middleware_of_a_sync_task_is_refused(app: App) -> None:
    with pytest.raises(ConfigError, match=r"middleware .*raises_after_async is async and the task is not: write it"):
        app.task(name="t", middleware=[raises_after_async])(lambda: None)
    with pytest.raises(ConfigError, match=r"middleware takes a list of generator functions"):
        app.task(name="t", middleware=untyped(raises_after))(lambda: None)


class Counted:
    """An object does as well."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def __call__(self, job: CurrentJob) -> Around:
        outcome = yield
        self.outcomes.append(outcome.verdict)


def test_an_object_with_a_call_that_yields_is_middleware(app: App) -> None:
    counted = app.middleware(Counted())
    app.task(name="t")(lambda: None)
    outcome_of(app, "t")
    assert counted.outcomes == [Verdict.SUCCEEDED]


def test_what_it_raises_after_the_commit_is_logged_without_secrets(app: App, caplog: pytest.LogCaptureFixture) -> None:
    @app.middleware
    def tells(job: CurrentJob) -> Around:
        yield
        raise Refused(f"could not tell {job.kwargs['password']}")

    @app.task(name="t")
    def task(password: str) -> None: ...

    job = claimed(task="t", kwargs='{"password": "hunter2"}')
    attempt = Attempt(job, app.tasks["t"], current(job), worker="w")
    attempt.execute = lambda connection: Outcome(job.id, job.token, Verdict.COMMITTED)  # type: ignore[method-assign]
    attempt._arguments()
    assert attempt.execute_inside(untyped(None)).verdict == Verdict.COMMITTED
    assert "Refused: could not tell ***" in caplog.text and "in tells" in caplog.text and "hunter2" not in caplog.text
