"""Oban's client side: `prepare` or a command of producer.py. The connection comes from libpq's variables."""

import sys

import producer
import uvloop
from oban import Oban, schema
from oban_jobs import Noop, Stamp

CHUNK = 1000  # jobs in one statement of a bulk load


def client(oban: Oban) -> producer.Client:
    async def one() -> None:
        await oban.enqueue(Noop.new({}))

    async def many(count: int) -> None:
        for start in range(0, count, CHUNK):
            await oban.enqueue_many(Noop.new({}) for _ in range(min(CHUNK, count - start)))

    async def stamped(number: int) -> None:
        await oban.enqueue(Stamp.new({"number": number}))

    return producer.Client(one=one, many=many, stamp=stamped)


async def main() -> None:
    pool = await Oban.create_pool("application_name=oban")
    try:
        if sys.argv[1:] == ["prepare"]:
            await schema.install(pool)
        else:
            await producer.serve(client(Oban(pool=pool)), sys.argv[1:])
    finally:
        await pool.close()


if __name__ == "__main__":
    uvloop.run(main())
