"""asyncpg's connections, and those that its pool lends."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, TypeVar

import asyncpg

from pgqueue.db.doors.caller import AsyncCaller, made
from pgqueue.db.doors.text import arguments, copy_lines, copy_target, numbered
from pgqueue.errors import ConfigError
from pgqueue.queries import Statement

R = TypeVar("R")


def adapt(conn: Any) -> AsyncCaller | None:
    """None: no connection of asyncpg."""
    if isinstance(conn, asyncpg.Pool):
        raise ConfigError(
            "an asyncpg Pool takes another connection for each statement, outside of your transaction: give conn= the one of "
            "`async with pool.acquire() as conn`"
        )
    if not isinstance(conn, asyncpg.Connection) and type(conn).__name__ != "PoolConnectionProxy":
        return None
    return AsyncpgCaller(conn)


class AsyncpgCaller:
    """One of them."""

    is_async: ClassVar[bool] = True

    def __init__(self, conn: Any) -> None:
        self.given = conn
        self.alone = not conn.is_in_transaction()

    async def execute(self, statement: Statement[R]) -> list[R]:
        if statement.copy_rows is not None:
            target = copy_target(statement.sql)
            await self.given.copy_to_table(
                target.table, schema_name=target.schema, columns=target.columns, format="text",
                source=_encoded(statement.copy_rows),
            )  # fmt: skip
            return []
        text, names = numbered(statement.sql)
        rows = await self.given.fetch(text, *arguments(names, statement.params))
        # A record of the caller's own class may iterate over anything.
        return made(statement, (row.values() for row in rows))

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        transaction: AbstractAsyncContextManager[Any] = self.given.transaction()
        return transaction

    def said(self, setting: str) -> str | None:
        return getattr(self.given.get_settings(), setting, None)

    async def driver(self) -> Any:
        return self.given


async def _encoded(rows: Any) -> AsyncIterator[bytes]:
    for piece in copy_lines(rows):
        yield piece.encode()
