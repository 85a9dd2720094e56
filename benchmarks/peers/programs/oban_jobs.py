"""What Oban's worker runs: `oban start` imports this by the name that a job carries."""

import time

import ticks
from oban import Job, worker


@worker(queue="default")
class Noop:
    async def process(self, job: Job) -> None:
        ticks.tick()


@worker(queue="default")
class Stamp:
    async def process(self, job: Job) -> None:
        began_ns = time.monotonic_ns()
        ticks.stamp(job.args["number"], began_ns)
