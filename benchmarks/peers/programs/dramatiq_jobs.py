"""Dramatiq's side: a command of producer.py; `dramatiq dramatiq_jobs` runs the jobs."""

import os
import time

import dramatiq
import producer
import ticks
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

SOCKET = os.environ["PEER_REDIS"]

broker = RedisBroker(url=f"unix://{SOCKET}?db=0")
# Results go into a database of Redis of their own, so that counting them is one cheap command.
broker.add_middleware(Results(backend=RedisBackend(url=f"unix://{SOCKET}?db=1"), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor
def noop() -> int:
    return ticks.tick()


@dramatiq.actor
def stamp(number: int) -> int:
    began_ns = time.monotonic_ns()
    return ticks.stamp(number, began_ns)


async def one() -> None:
    noop.send()


async def many(count: int) -> None:
    """Dramatiq has no bulk operation: group.run() sends one by one as well."""
    for _ in range(count):
        noop.send()


async def stamped(number: int) -> None:
    stamp.send(number)


if __name__ == "__main__":
    producer.main(producer.Client(one=one, many=many, stamp=stamped))
