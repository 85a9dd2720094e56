"""One app's way into the log: in the transaction of the caller's connection, or on a connection of ours."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from pgqueue import db
from pgqueue.client.connections import AppConnections
from pgqueue.client.tries import Tries
from pgqueue.events.publish import EventRow, publish_again, publish_one, publish_rows


class Publisher:
    """Appends events. conn as in Options; each method returns the ids."""

    def __init__(self, database: AppConnections) -> None:
        self._database = database

    def one(self, row: EventRow, *, conn: Any) -> str:
        """Append one event; raises DatabaseUnavailable, and OutcomeUnknown where it may be there all the same."""
        allowance = self._database.allowance(silence_s=db.SILENCE_S)
        try:
            with self._database.door(conn, allowance) as (door, ring):
                db.run(door, publish_one(self._database.queries, row, ring=ring))
        except db.DatabaseError as error:
            return self._again(row, conn, error, allowance)
        return row.id

    def _again(self, row: EventRow, conn: Any, error: Any = None, allowance: Any = None) -> str:
        tries = self._tries(row, conn, allowance)
        if error is None:
            self._database.ask()
        with tries, self._database.explained():
            tries.after(error)
            for attempt in self._database.again(tries):
                with attempt, self._database.transaction(tries) as (door, _):
                    db.run(door, publish_again(self._database.queries, row))
        return row.id

    def _tries(self, row: EventRow, conn: Any, allowance: Any) -> Tries:
        repeats = partial(self._again, row, conn), partial(self._again_async, row, conn)
        return self._database.tries(conn, allowance, job_id=row.id, repeats=repeats, noun="event")

    async def one_async(self, row: EventRow, *, conn: Any) -> str:
        """As `one`, for asyncio."""
        allowance = self._database.allowance(silence_s=db.SILENCE_S)
        try:
            async with self._database.door_async(conn, allowance) as (door, ring):
                await db.run_async(door, publish_one(self._database.queries, row, ring=ring))
        except db.DatabaseError as error:
            return await self._again_async(row, conn, error, allowance)
        return row.id

    async def _again_async(self, row: EventRow, conn: Any, error: Any = None, allowance: Any = None) -> str:
        tries = self._tries(row, conn, allowance)
        if error is None:
            await asyncio.to_thread(self._database.ask)
        with tries, self._database.explained():
            tries.after(error)
            async for attempt in self._database.again_async(tries):
                with attempt:
                    async with self._database.transaction_async(tries) as (door, _):
                        await db.run_async(door, publish_again(self._database.queries, row))
        return row.id

    def many(self, rows: Iterable[EventRow], *, conn: Any) -> list[str]:
        """Append many events, all or none; in the caller's transaction they share a savepoint."""
        queries, tries = self._database.queries, self._database.tries(conn, noun="event")
        with tries, self._database.explained(), self._database.door(conn, tries.allowance) as (door, ring):
            if db.would_begin(door):
                db.run(door, queries.begin())
            with door.transaction():
                ids = db.run(door, publish_rows(queries, rows, ring=ring))
                tries.commit_all(ids)
        return ids

    async def many_async(self, rows: Iterable[EventRow], *, conn: Any) -> list[str]:
        """As `many`, for asyncio."""
        queries, tries = self._database.queries, self._database.tries(conn, noun="event")
        with tries, self._database.explained():
            async with self._database.door_async(conn, tries.allowance) as (door, ring):
                if db.would_begin(door):
                    await db.run_async(door, queries.begin())
                async with door.transaction():
                    ids = await db.run_async(door, publish_rows(queries, rows, ring=ring))
                    tries.commit_all(ids)
        return ids
