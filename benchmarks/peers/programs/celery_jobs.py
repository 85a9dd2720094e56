"""Celery's side: a command of producer.py; `celery -A celery_jobs worker` runs the jobs."""

import os
import time

import producer
import ticks
from celery import Celery

SOCKET = os.environ["PEER_REDIS"]

# Results go into a database of Redis of their own, so that counting them is one cheap command.
app = Celery(
    broker=f"redis+socket://{SOCKET}?virtual_host=0",
    backend=f"redis+socket://{SOCKET}?virtual_host=1",
    set_as_current=True,
)
app.conf.task_ignore_result = False
app.conf.broker_connection_retry_on_startup = True


@app.task(name="noop")
def noop() -> int:
    return ticks.tick()


@app.task(name="stamp")
def stamp(number: int) -> int:
    began_ns = time.monotonic_ns()
    return ticks.stamp(number, began_ns)


async def one() -> None:
    noop.delay()


async def many(count: int) -> None:
    """Celery has no bulk operation: a group sends one by one as well, and no faster."""
    for _ in range(count):
        noop.delay()


async def stamped(number: int) -> None:
    stamp.delay(number)


if __name__ == "__main__":
    producer.main(producer.Client(one=one, many=many, stamp=stamped))
