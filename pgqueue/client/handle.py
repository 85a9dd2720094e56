"""Handles to jobs: what `defer` and `defer_many` give back, by which a program asks about them and waits for results."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pgqueue.job import Snapshot, State

if TYPE_CHECKING:
    from pgqueue.app import App

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """A handle to one job: an id and the way to ask about it. Cheap to make, safe to keep, compares by id."""

    id: str
    task: str = field(default="", compare=False)
    created: bool = field(default=True, compare=False)
    """False when a live job with the same unique key already existed; `id` is then that job's."""
    _app: "App | None" = field(default=None, compare=False, repr=False)

    @property
    def state(self) -> State:
        """The job's state now, from the database; raises JobNotFound."""
        return State(self.snapshot().state)

    def snapshot(self) -> Snapshot:
        """The job's whole row as of now; raises JobNotFound."""
        return self._bound.snapshot(self.id)

    def result(self, timeout: float | None = None) -> T:
        """Wait until the job has ended and return what the task returned, decoded by its annotations.

        timeout is in seconds, None waits without limit. Raises ResultTimeout, JobDead, JobCancelled or JobNotFound, and
        DatabaseUnavailable when the database has not answered for longer than a defer has patience; then ask again.
        """
        value: Any = self._bound.result(self.id, timeout_s=timeout)
        return value  # type: ignore[no-any-return]

    async def result_async(self, timeout: float | None = None) -> T:
        """As `result`, for asyncio; thousands may wait at once."""
        value: Any = await self._bound.result_async(self.id, timeout_s=timeout)
        return value  # type: ignore[no-any-return]

    def cancel(self, reason: str = "cancelled by request", *, kill: bool = False) -> bool:
        """Cancel the job: at once if it has not started, else ask the running task to stop.

        kill: a task that has not stopped a second later is ended together with its process; other jobs of that process run
        elsewhere, and nobody is charged an attempt. False: the job had already ended. Raises JobNotFound.
        """
        return self._bound.cancel(self.id, reason=reason, kill=kill)

    def retry(self) -> bool:
        """Run the job again from its first attempt if it ended; a scheduled one becomes due now.

        False: it is queued or running anyway. Raises JobNotFound, and DuplicateJob if its unique key is taken.
        """
        return self._bound.retry(self.id)

    @property
    def _bound(self) -> "App":
        if self._app is None:
            raise RuntimeError(f"job {self.id} belongs to no App; get it by app.job(id)")
        return self._app


class Jobs(Sequence[Job[T]]):
    """The jobs of one `defer_many`, in the order of its calls. Holds 16 bytes a job, so a million of them are cheap."""

    __slots__ = ("_app", "_found", "_ids", "_task")

    def __init__(self, ids: bytes, *, task: str, found: frozenset[int] = frozenset(), app: "App | None" = None) -> None:
        self._ids = ids
        self._task = task
        self._found = found  # positions whose unique key was taken by a job that was there before
        self._app = app

    def __len__(self) -> int:
        return len(self._ids) // 16

    @overload
    def __getitem__(self, index: int) -> Job[T]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job[T]]: ...
    def __getitem__(self, index: int | slice) -> Job[T] | list[Job[T]]:
        indexes = range(len(self))[index]
        return self._job(indexes) if isinstance(indexes, int) else [self._job(at) for at in indexes]

    def _job(self, at: int) -> Job[T]:
        id_ = str(uuid.UUID(bytes=self._ids[at * 16 : at * 16 + 16]))
        return Job(id_, self._task, at not in self._found, self._app)

    def __repr__(self) -> str:
        return f"<Jobs: {len(self)} of {self._task}>"
