"""See what a block defers, without a database or in addition to it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pgqueue.app import App
from pgqueue.client.enqueue import Call
from pgqueue.client.handle import Job
from pgqueue.client.options import Options
from pgqueue.job import new_ids
from pgqueue.task import AnyTask
from pgqueue.testing.call import Deferred, by_options
from pgqueue.testing.expectation import Expectation
from pgqueue.testing.intercept import Found, intercepted


class Captured(list[Deferred]):
    """The calls of one block, in order."""

    def __init__(self, app: App | None, *, insert: bool) -> None:
        super().__init__()
        self.app = app
        self._insert = insert

    def of(self, task: AnyTask | str) -> list[Deferred]:
        """Those of one task."""
        name = task if isinstance(task, str) else task.name
        return [each for each in self if each.task == name]

    def assert_deferred(self, task: AnyTask | str, /, *args: Any, **kwargs: Any) -> Deferred:
        """As the function of this name, among these."""
        return Expectation(task, args, kwargs).met_by(self)

    def assert_not_deferred(self, task: AnyTask | str, /, *args: Any, **kwargs: Any) -> None:
        """As the function of this name, among these."""
        Expectation(task, args, kwargs).not_met_by(self)

    # -- as an Interceptor --

    def instead(self, app: App, task: str, calls: Sequence[Call], options: Options) -> Found | None:
        return None if self._insert else [Job(id_, task, True, app) for id_ in new_ids(len(calls))]

    async def instead_async(self, app: App, task: str, calls: Sequence[Call], options: Options) -> Found | None:
        return self.instead(app, task, calls, options)

    def note(self, app: App, task: str, calls: Sequence[Call], options: Options, jobs: Found) -> None:
        known = app.tasks.get(task)
        options = options.over(known.defaults) if known is not None else options
        self.extend(by_options(app, job.id, task, call, options) for call, job in zip(calls, jobs, strict=True))


@contextmanager
def captured(*, app: App | None = None, insert: bool = False) -> Iterator[Captured]:
    """Within the block, list what is deferred, by whatever thread, in whatever transaction; nothing is inserted.

    Calls and options are checked and encoded as ever, so what production would refuse is refused here. But no database is asked:
    unique= finds no other job, and a rollback takes nothing back. insert=True: they are inserted too. app: of this App alone.
    """
    found = Captured(app, insert=insert)
    with intercepted(found):
        yield found
