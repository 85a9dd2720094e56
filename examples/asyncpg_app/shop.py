"""The task, with a pool for each child of a worker: `pgqueue worker -A examples.asyncpg_app.shop`."""

import os
from typing import Any

import asyncpg

import pgqueue
from pgqueue import task

TABLE = "create table if not exists receipt (id serial primary key, email text not null, sent_at timestamptz)"


def new_pool() -> Any:
    """Connects when it is entered or awaited."""
    return asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=5)


class Pool:
    """Of this process, while it is a child of a worker."""

    pool: Any = None


@pgqueue.app.on_child_start
async def connect() -> None:
    """On the event loop of the async jobs."""
    Pool.pool = await new_pool()


@pgqueue.app.on_child_stop
async def disconnect() -> None:
    await Pool.pool.close()


# No more at once than the pool has connections: asyncpg would let the others wait until their time is over.
@task(async_limit=5, timeout=30)
async def send(receipt_id: int) -> str:
    async with Pool.pool.acquire() as conn, conn.transaction():
        email: str = await conn.fetchval("update receipt set sent_at = now() where id = $1 returning email", receipt_id)
    return f"sent to {email}"
