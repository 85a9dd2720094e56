"""pgqueue's side: `pgqueue_jobs.py prepare` or a command of producer.py; `pgqueue worker -A pgqueue_jobs` runs the jobs."""

import os
import sys
import time
from itertools import repeat

import producer
import ticks

from pgqueue import App

app = App()
# The variant that keeps nothing of what succeeded: PEER_KEEP=0.
OPTIONS = {"keep": int(os.environ["PEER_KEEP"])} if "PEER_KEEP" in os.environ else {}


@app.task(name="noop", **OPTIONS)
def noop() -> int:
    return ticks.tick()


@app.task(name="stamp", **OPTIONS)
def stamp(number: int) -> int:
    return ticks.stamp(number, time.monotonic_ns())


async def one() -> None:
    noop.defer()


async def many(count: int) -> None:
    noop.defer_many(repeat((), count))


async def stamped(number: int) -> None:
    stamp.defer(number)


if __name__ == "__main__":
    if sys.argv[1:] == ["prepare"]:
        app.migrate()
    else:
        producer.main(producer.Client(one=one, many=many, stamp=stamped))
