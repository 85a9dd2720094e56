"""Write a batch of which some may be refused: those are found by halves, and all others are written."""

import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from pgqueue import db
from pgqueue.queries import Statement
from pgqueue.worker.supervisor.connection import WorkConnection

T = TypeVar("T")
REFUSED = "refused"  # the cause of a failure that is neither the task's nor the process's
ENOUGH = 10  # refusals that say nothing of values, and not one that was taken: then no single value is at fault
MAX_REFUSAL = 500  # characters of what the database said


class Refused(Exception):
    """A statement was refused for what it says, and would be again. `error` is what the client or the server said."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.error = error

    @property
    def of_values(self) -> bool:
        """Whether it says so itself: some value is wrong."""
        return db.is_of_values(self.error)

    @property
    def line(self) -> str:
        """The first line of it, as any database can hold it."""
        return in_ascii((str(self).splitlines() or [""])[0])[:MAX_REFUSAL]


def in_ascii(text: object) -> str:
    """Text that every encoding has, with escapes for all else."""
    return str(text).replace("\0", "\\x00").encode("ascii", "backslashreplace").decode()


async def run_or_refuse(connection: WorkConnection, statement: Callable[[], Statement[T]]) -> list[T]:
    """Make a statement and run it; raises Refused, or one of TRANSIENT where it may pass if it is said again."""

    async def run() -> list[T]:
        return await connection.run(statement())

    return await refusing(run())


async def refusing(work: Awaitable[T]) -> T:
    """As `run_or_refuse`, for whatever is sent."""
    try:
        return await work
    except Exception as error:
        if db.is_of_the_moment(error):
            raise
        raise Refused(error) from error


async def sift(send: Callable[[Sequence[T]], Awaitable[None]], batch: Sequence[T]) -> list[tuple[T, Refused]]:
    """Send a batch, in parts if it must be, and return what was refused.

    Where the error is not one of values, or there is but one in the batch, the statement is sent with nothing first, and raises
    this if that is refused as well; also if ENOUGH parts of one were refused and nothing has passed.
    """
    try:
        await send(batch)
    except Refused as refused:
        if not refused.of_values or len(batch) == 1:
            await send([])
        if not refused.of_values:
            batch = random.sample(batch, len(batch))  # so that those that would pass have their turn some time
        elif len(batch) == 1:
            return [(batch[0], refused)]
    else:
        return []
    found, passed = [], False
    parts = deque(_halves(batch))
    while parts:
        part = parts.popleft()
        try:
            await send(part)
            passed = True
        except Refused as refused:
            if len(part) > 1:
                parts.extendleft(reversed(_halves(part)))
                continue
            found.append((part[0], refused))
            if len(found) >= ENOUGH and not (passed or refused.of_values):
                raise
    return found


def _halves(batch: Sequence[T]) -> list[Sequence[T]]:
    middle = len(batch) // 2
    return [half for half in (batch[:middle], batch[middle:]) if half]
