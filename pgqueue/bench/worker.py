"""A worker as people start it, over the tasks that are measured."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pgqueue.bench.bench import Bench
from pgqueue.config import environment_with
from pgqueue.errors import PgQueueError

END_S = 30.0  # a worker that has nothing to run ends in a fraction of a second


@contextmanager
def worker(bench: Bench, *options: str) -> Iterator[int]:
    """`pgqueue worker` with these options; yields its process id once it says that it is ready. Raises PgQueueError."""
    command = [sys.executable, "-m", "pgqueue", "worker", "-A", bench.tasks, "-l", "warning", *options]
    settings = environment_with(dsn=bench.app.dsn, schema=bench.app.config.schema)
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if "is ready" not in process.stdout.readline():
                raise PgQueueError("the worker to be measured did not start; see its output above")
            yield process.pid
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
