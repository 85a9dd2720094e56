"""PgQueuer's side: `prepare`, `worker` or a command of producer.py. The connection comes from libpq's variables."""

import asyncio
import os
import signal
import sys
import time

import asyncpg
import producer
import ticks
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

CHUNK = 10_000  # jobs in one statement of a bulk load


async def queries() -> Queries:
    return Queries(AsyncpgDriver(await asyncpg.connect()))


async def prepare(tables: Queries) -> None:
    """As its checklist says: autovacuum settings after installation."""
    await tables.install()
    await tables.optimize_autovacuum()


async def produce() -> None:
    into = await queries()

    async def one() -> None:
        await into.enqueue("noop", None)

    async def many(count: int) -> None:
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            await into.enqueue(["noop"] * size, [None] * size, [0] * size)

    async def stamped(number: int) -> None:
        await into.enqueue("stamp", b"%d" % number)

    await producer.serve(producer.Client(one=one, many=many, stamp=stamped), sys.argv[1:])


async def consumer() -> PgQueuer:
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect()))

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        ticks.tick()

    @queue.entrypoint("stamp")
    async def stamp(job: Job) -> None:
        began_ns = time.monotonic_ns()
        ticks.stamp(int(job.payload or b""), began_ns)

    return queue


async def work() -> None:
    """As its tools/benchmark.py does: several consumers on one loop, each with a connection of its own."""
    consumers = [await consumer() for _ in range(int(os.environ["PEER_CONSUMERS"]))]

    def stop() -> None:
        for each in consumers:
            each.shutdown.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await asyncio.gather(*(each.run(batch_size=int(os.environ["PEER_BATCH"])) for each in consumers))


async def main() -> None:
    match sys.argv[1:]:
        case ["prepare"]:
            await prepare(await queries())
        case ["worker"]:
            await work()
        case _:
            await produce()


if __name__ == "__main__":
    uvloop.run(main())
