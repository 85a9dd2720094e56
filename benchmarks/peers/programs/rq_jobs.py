"""RQ's side: a command of producer.py; `rq worker-pool` runs the jobs."""

import os
import time

import producer
import ticks
from redis import Redis
from rq import Queue

CHUNK = 1000  # jobs in one pipeline of a bulk load


def noop() -> int:
    return ticks.tick()


def stamp(number: int) -> int:
    began_ns = time.monotonic_ns()
    return ticks.stamp(number, began_ns)


def client() -> producer.Client:
    queue = Queue(connection=Redis(unix_socket_path=os.environ["PEER_REDIS"]))

    async def one() -> None:
        queue.enqueue("rq_jobs.noop")

    async def many(count: int) -> None:
        for start in range(0, count, CHUNK):
            queue.enqueue_many([Queue.prepare_data("rq_jobs.noop") for _ in range(min(CHUNK, count - start))])

    async def stamped(number: int) -> None:
        queue.enqueue("rq_jobs.stamp", number)

    return producer.Client(one=one, many=many, stamp=stamped)


if __name__ == "__main__":
    producer.main(client())
