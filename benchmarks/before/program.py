"""One figure of one build, whichever stands first on the Python path: `python program.py FIGURE`, over PGQUEUE_DSN.

Only what every build has is used: the App, a worker in a process of its own, and the table of jobs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from statistics import median

import psycopg

from pgqueue import App

DRAIN_JOBS = 60_000
DEFERS = 100  # in a turn
PACED_JOBS = 150
PAUSE_S = 0.01  # long enough for a worker to sleep again

app = App()


@app.task(name="noop")
def noop() -> int:
    return 1


def main() -> None:
    figure, _, number = sys.argv[1].partition("-")
    app.migrate()
    with psycopg.connect(app.dsn, autocommit=True) as conn:
        conn.execute("truncate pgqueue.job, pgqueue.history, pgqueue.attempt, pgqueue.worker")
    for rate in {"drain": drain, "defer": defers, "latency": latency}[figure](int(number or 1)):
        print(rate, flush=True)


def drain(children: int) -> Iterator[float]:
    """No-op jobs a second, by the times that their rows tell."""
    noop.defer_many(repeat((), DRAIN_JOBS))
    with psycopg.connect(app.dsn, autocommit=True) as conn:
        conn.execute("vacuum analyze pgqueue.job")
        subprocess.run(
            [*_worker(children), "--burst"], check=True, stdout=subprocess.DEVNULL, env=os.environ, cwd=FOLDER
        )
        ((count, seconds),) = conn.execute(
            "select count(*), extract(epoch from max(finished_at) - min(started_at))::float8 "
            "from pgqueue.history where state = 'succeeded'"
        ).fetchall()
    assert count == DRAIN_JOBS, f"{count} of {DRAIN_JOBS} jobs succeeded"
    yield float(count / seconds)


def defers(_: int) -> Iterator[float]:
    """Defers a second of one client: warm first, which is told as 0, then a turn for each line that comes in."""
    for _ in range(500):
        noop.defer()
    yield 0
    for _ in sys.stdin:
        began = time.perf_counter()
        for _ in range(DEFERS):
            noop.defer()
        yield DEFERS / (time.perf_counter() - began)


def latency(children: int) -> Iterator[float]:
    """Jobs a second if each waited for the one before: one over the median of the times from defer to claim, on an idle worker."""
    with subprocess.Popen(_worker(children), stdout=subprocess.PIPE, text=True, env=os.environ, cwd=FOLDER) as worker:
        assert worker.stdout is not None and "is ready" in worker.stdout.readline()
        for _ in range(PACED_JOBS):
            noop.defer().result(10)
            time.sleep(PAUSE_S)
        worker.terminate()
        worker.communicate()
    with psycopg.connect(app.dsn) as conn:
        rows = conn.execute(
            "select extract(epoch from started_at - created_at)::float8 from pgqueue.history"
        ).fetchall()
    yield 1 / median(seconds for (seconds,) in rows)


FOLDER = Path(__file__).parent


def _worker(children: int) -> list[str]:
    return [sys.executable, "-m", "pgqueue", "worker", "-A", "program", "-l", "warning", "-c", str(children)]


if __name__ == "__main__":
    main()
