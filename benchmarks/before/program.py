"""One figure of one build, whichever stands first on the Python path: `python program.py FIGURE`, over PGQUEUE_DSN.

Only what every build has is used: the App, a worker in a process of its own, and the table of jobs.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import median

import psycopg

from pgqueue import App

JOBS = 20_000  # of a drain in a turn: a second
DEFERS = 100
PACED_JOBS = 10
PAUSE_S = 0.01  # long enough for a worker to sleep again
DRAIN_POLL_S = 0.02  # between two looks whether a drain is over


app = App()


@app.task(name="noop")
def noop() -> int:
    return 1


def main() -> None:
    """Make ready, say so by a 0, then print a rate for each line that comes in, until no more can come."""
    figure, _, number = sys.argv[1].partition("-")
    app.migrate()
    with psycopg.connect(app.dsn, autocommit=True) as conn:
        conn.execute("truncate pgqueue.job, pgqueue.history, pgqueue.attempt, pgqueue.worker")
        take = {"drain": partial(drain, conn), "defer": defer, "latency": partial(latency, conn)}[figure]
        with contextlib.nullcontext() if figure == "defer" else worker(int(number)):
            take()
            print(0, flush=True)
            for _ in sys.stdin:
                print(take(), flush=True)


def drain(conn: psycopg.Connection) -> float:
    """No-op jobs a second, by the times that their rows tell."""
    conn.execute("truncate pgqueue.history")
    conn.execute("vacuum analyze pgqueue.job")
    noop.defer_many(repeat((), JOBS))
    while conn.execute("select from pgqueue.job limit 1").rowcount:
        time.sleep(DRAIN_POLL_S)
    ((count, seconds),) = conn.execute(
        "select count(*), extract(epoch from max(finished_at) - min(started_at))::float8 "
        "from pgqueue.history where state = 'succeeded'"
    ).fetchall()
    assert count == JOBS, f"{count} of {JOBS} jobs succeeded"
    return float(count / seconds)


def defer() -> float:
    """Defers a second of one client."""
    began = time.perf_counter()
    for _ in range(DEFERS):
        noop.defer()
    return DEFERS / (time.perf_counter() - began)


def latency(conn: psycopg.Connection) -> float:
    """Jobs a second if each waited for the one before: one over the median of the times from defer to claim, on an idle worker."""
    conn.execute("truncate pgqueue.history")
    for _ in range(PACED_JOBS):
        noop.defer().result(10)
        time.sleep(PAUSE_S)
    rows = conn.execute("select extract(epoch from started_at - created_at)::float8 from pgqueue.history").fetchall()
    return 1 / median(seconds for (seconds,) in rows)


FOLDER = Path(__file__).parent


@contextlib.contextmanager
def worker(children: int) -> Iterator[None]:
    """One of the figure, ready."""
    command = [sys.executable, "-m", "pgqueue", "worker", "-A", "program", "-l", "warning", "-c", str(children)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ, cwd=FOLDER) as started:
        assert started.stdout is not None and "is ready" in started.stdout.readline()
        try:
            yield
        finally:
            started.terminate()
            started.communicate()


if __name__ == "__main__":
    main()
