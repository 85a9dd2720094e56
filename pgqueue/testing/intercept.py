"""What comes between a `defer` and the database in a block of a test: every way to defer ends in one of four methods of App."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from pgqueue import db
from pgqueue.app import App
from pgqueue.client.enqueue import Call
from pgqueue.client.handle import Job, Jobs
from pgqueue.client.options import Options
from pgqueue.errors import ConfigError
from pgqueue.job import id_bytes

Found = Sequence[Job[Any]]
NOT_SYNC = "this is an async connection: await defer_async(), enqueue_async() or defer_many_async()"
NOT_ASYNC = "this is a sync connection: use defer(), enqueue() or defer_many(), or give an async connection"


class Interceptor(Protocol):
    """A block's own. `app`: of this one alone, None: of all."""

    app: App | None

    def instead(self, app: App, task: str, calls: Sequence[Call], options: Options) -> Found | None:
        """The jobs of these calls, if none is to be inserted."""

    async def instead_async(self, app: App, task: str, calls: Sequence[Call], options: Options) -> Found | None:
        """As `instead`, for asyncio."""

    def note(self, app: App, task: str, calls: Sequence[Call], options: Options, jobs: Found) -> None:
        """What came of them."""


_open: list[Interceptor] = []
_METHODS = {name: getattr(App, name) for name in ("insert", "insert_async", "insert_many", "insert_many_async")}


@contextmanager
def intercepted(by: Interceptor) -> Iterator[None]:
    """Within the block, in every thread, `by` is asked; the innermost first."""
    if not _open:
        for name, method in _INSTEAD.items():
            setattr(App, name, method)
    _open.append(by)
    try:
        yield
    finally:
        _open[:] = [each for each in _open if each is not by]  # two may be equal, as lists of the same
        if not _open:
            for name, method in _METHODS.items():
                setattr(App, name, method)


def innermost(kind: type[Any]) -> Any:
    """The innermost open interceptor of a class; None: there is none."""
    return next((each for each in reversed(_open) if isinstance(each, kind)), None)


def _of(app: App) -> list[Interceptor]:
    return [each for each in reversed(_open) if each.app in (None, app)]


def _check(app: App, conn: Any, *, is_async: bool) -> None:
    """As where it is inserted: a connection that could not take the job is refused."""
    conn = conn if conn is not None else app._database.using.get()
    if conn is not None and db.is_async(db.adapt(conn)) != is_async:
        raise ConfigError(NOT_ASYNC if is_async else NOT_SYNC)


def _note(app: App, task: str, calls: Sequence[Call], options: Options, jobs: Found) -> None:
    for each in _of(app):
        each.note(app, task, calls, options, jobs)


def _instead(app: App, task: str, calls: Sequence[Call], options: Options) -> Found | None:
    found = (each.instead(app, task, calls, options) for each in _of(app))
    return next((jobs for jobs in found if jobs is not None), None)


async def _instead_async(app: App, task: str, calls: Sequence[Call], options: Options) -> Found | None:
    for each in _of(app):
        jobs = await each.instead_async(app, task, calls, options)
        if jobs is not None:
            return jobs
    return None


class HeldJobs(Jobs[Any]):
    """Jobs that are not in the database: each handle is the one that was made."""

    __slots__ = ("_held",)

    def __init__(self, jobs: Found, *, task: str, app: App) -> None:
        super().__init__(b"".join(id_bytes(job.id) for job in jobs), task=task, app=app)
        self._held = jobs

    def _job(self, at: int) -> Job[Any]:
        return self._held[at]


def _insert(app: App, task: str, call: Call, *, options: Options) -> Job[Any]:
    _check(app, options.conn, is_async=False)
    jobs = _instead(app, task, [call], options) or [_METHODS["insert"](app, task, call, options=options)]
    _note(app, task, [call], options, jobs)
    return jobs[0]


async def _insert_async(app: App, task: str, call: Call, *, options: Options) -> Job[Any]:
    _check(app, options.conn, is_async=True)
    jobs = await _instead_async(app, task, [call], options)
    jobs = jobs or [await _METHODS["insert_async"](app, task, call, options=options)]
    _note(app, task, [call], options, jobs)
    return jobs[0]


def _insert_many(app: App, task: str, calls: Any, *, options: Options) -> Jobs[Any]:
    _check(app, options.conn, is_async=False)
    calls = list(calls)
    jobs = _instead(app, task, calls, options)
    made = (
        _METHODS["insert_many"](app, task, calls, options=options)
        if jobs is None
        else HeldJobs(jobs, task=task, app=app)
    )
    _note(app, task, calls, options, made)
    return made


async def _insert_many_async(app: App, task: str, calls: Any, *, options: Options) -> Jobs[Any]:
    _check(app, options.conn, is_async=True)
    calls = list(calls)
    jobs = await _instead_async(app, task, calls, options)
    made = (
        await _METHODS["insert_many_async"](app, task, calls, options=options)
        if jobs is None
        else HeldJobs(jobs, task=task, app=app)
    )
    _note(app, task, calls, options, made)
    return made


_INSTEAD = {
    "insert": _insert, "insert_async": _insert_async, "insert_many": _insert_many, "insert_many_async": _insert_many_async,
}  # fmt: skip
