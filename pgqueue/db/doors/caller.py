"""A caller's connection of another library than psycopg, as our statements use it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, ClassVar, Protocol, TypeVar

from pgqueue.queries import Statement

R = TypeVar("R")


class Caller(Protocol):
    """A sync one. Statements run at the level that owns the transaction, never below it: a job that goes to the driver's own
    connection may be committed before the caller's transaction, and stay after its rollback.
    """

    is_async: ClassVar[bool] = False
    given: Any
    """The library's own object; of a proxy what it is in this thread."""
    alone: bool
    """Whether the statement that ran last committed by itself."""
    counted: ClassVar[bool] = False
    """Whether its users count their queries in tests: then a defer is one and no more, and whether the schema fits is left to
    the framework's migrations and checks."""

    def execute(self, statement: Statement[R]) -> list[R]:
        """Run one statement; raises what the library raises."""

    def transaction(self) -> AbstractContextManager[Any]:
        """A savepoint in the caller's transaction; where there is none, a transaction."""

    def said(self, setting: str) -> str | None:
        """A setting of the session that the server has reported to the driver; None: it has not."""

    def driver(self) -> Any:
        """The driver's own connection, for what is nested in the transaction that has begun."""


class AsyncCaller(Protocol):
    """As Caller, for asyncio."""

    is_async: ClassVar[bool] = True
    given: Any
    alone: bool

    async def execute(self, statement: Statement[R]) -> list[R]: ...

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...

    def said(self, setting: str) -> str | None: ...

    async def driver(self) -> Any: ...


class Adapted:
    """A base for what is a Caller or an AsyncCaller by itself: `adapt` leaves it as it is."""


def made(statement: Statement[R], rows: Any) -> list[R]:
    """The rows of an answer as the statement wants them, whatever class the library gives them."""
    make: Callable[[tuple[Any, ...]], Any] = statement.row or tuple
    return [make(tuple(row)) for row in rows]
