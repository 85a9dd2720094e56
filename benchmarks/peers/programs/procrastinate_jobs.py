"""Procrastinate's side: `prepare`, `worker` or a command of producer.py. The connection comes from libpq's variables."""

import asyncio
import os
import sys
import time

import procrastinate
import producer
import ticks

CHUNK = 1000  # jobs in one statement of a bulk load

app = procrastinate.App(connector=procrastinate.PsycopgConnector(max_size=int(os.environ["PEER_POOL"])))


@app.task(name="noop")
async def noop() -> int:
    return ticks.tick()


@app.task(name="stamp")
async def stamp(number: int) -> int:
    began_ns = time.monotonic_ns()
    return ticks.stamp(number, began_ns)


async def one() -> None:
    await noop.defer_async()


async def many(count: int) -> None:
    for start in range(0, count, CHUNK):
        await noop.batch_defer_async(*({} for _ in range(min(CHUNK, count - start))))


async def stamped(number: int) -> None:
    await stamp.defer_async(number=number)


async def main() -> None:
    async with app.open_async():
        match sys.argv[1:]:
            case ["prepare"]:
                await app.schema_manager.apply_schema_async()
            case ["worker"]:
                await app.run_worker_async(concurrency=int(os.environ["PEER_CONCURRENCY"]))
            case _:
                await producer.serve(producer.Client(one=one, many=many, stamp=stamped), sys.argv[1:])


if __name__ == "__main__":
    asyncio.run(main())
