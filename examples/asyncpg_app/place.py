"""Write rows and defer their jobs in one transaction of asyncpg: `python -m examples.asyncpg_app.place a@b.c`."""

import asyncio
import sys
from typing import Any

import pgqueue
from examples.asyncpg_app.shop import TABLE, new_pool, send


async def place(conn: Any, email: str) -> pgqueue.Job[str]:
    """A row and its job: the caller's transaction commits both, or neither."""
    receipt_id: int = await conn.fetchval("insert into receipt (email) values ($1) returning id", email)
    return await send.options(conn=conn).defer_async(receipt_id)


async def main(emails: list[str]) -> None:
    """One transaction for all of them; then wait for what the worker says."""
    async with pgqueue.app.lifespan(), new_pool() as pool:
        async with pool.acquire() as conn:
            await conn.execute(TABLE)
            async with conn.transaction():
                jobs = [await place(conn, email) for email in emails]
        for job in jobs:
            sys.stdout.write(f"{await job.result_async(timeout=60)}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
