"""Measure every file of Python's standard library through the queue, and compare with doing it without one.

    python -m examples.corpus.demo [--limit FILES] [--children N]

Exit code 0: no job was lost or done twice, and both sums are equal. 1: not so. 130: interrupted.
"""

import argparse
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import sql
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import pgqueue
from examples.corpus.tasks import Recorded, Summary, add_up, measure, measure_file, recorded, summarise
from examples.corpus.worker import DemoError, Worker, pgqueue_command, running_worker

T = TypeVar("T")

FLAKY = 5  # so many files are made to fail
SUCCEEDS_AT = 3  # at this attempt they succeed
LOOK_S = 0.2  # between two looks at the counts
SAY_S = 3.0  # between two lines about them where no bar can be drawn
STALL_S = 60.0  # the slowest file takes half a second: this long without an end, something hangs
SUM_S = 60.0  # patience for the last job
DEMO_LOCK = 0x636F72707573  # "corpus": two demos on one database would cancel each other's jobs
EVERYTHING = 1_000_000  # more jobs than any standard library has files

RUN_TABLE = """
    create table if not exists corpus_run (
      id          bigint generated always as identity primary key,
      started_at  timestamptz not null default now(),
      files       integer not null,
      jobs        uuid[] not null default '{}',
      summary     jsonb
    )
"""

ENDED = sql.SQL("select count(*) from {jobs} where id = any (%s::uuid[]) and finished_at is not null")

console = Console(highlight=False, markup=False)


class Run(NamedTuple):
    """One run of this demo: its row in corpus_run, the jobs of its files, and those of the files that fail at first."""

    id: int
    jobs: list[str]
    flaky: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; what went wrong becomes lines for people and an exit code."""
    options = parse(argv)
    for number in (signal.SIGINT, signal.SIGTERM):  # explicitly: a shell starts background jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        problems = demo(corpus(options.limit), children=options.children)
    except KeyboardInterrupt:
        say("interrupted; the next run starts afresh")
        return 130
    except (DemoError, pgqueue.PgQueueError, psycopg.Error) as error:
        problems = [str(error)]
    finally:
        pgqueue.app.close()
    for problem in problems:
        say(f"PROBLEM: {problem}")
    return 1 if problems else 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.corpus.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, metavar="FILES", help="measure only the first so many files")
    parser.add_argument("-c", "--children", type=int, default=8, metavar="N", help="child processes of the worker (8)")
    options = parser.parse_args(argv)
    if options.children < 1 or (options.limit is not None and options.limit < 1):
        parser.error("--limit and --children take a number from 1")
    return options


def corpus(limit: int | None = None) -> list[Path]:
    """The source files of the running interpreter's standard library, without what was installed into it."""
    root = Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages"}
    return sorted(path for path in root.rglob("*.py") if path.is_file() and installed.isdisjoint(path.parts))[:limit]


def demo(paths: list[Path], *, children: int) -> list[str]:
    """The whole story; returns what is wrong, nothing if all is well."""
    pgqueue.app.migrate()
    with alone() as conn:
        run = enqueue(paths)
        say(f"run {run.id}: {len(run.jobs)} files are {len(run.jobs)} jobs, in one transaction with our own row")
        with running_worker(children=children) as worker:
            say(f"`pgqueue worker -c {children}` runs them; {len(run.flaky)} files fail twice before they succeed")
            by_queue, queue_s = timed(lambda: through_queue(conn, run, worker))
            say("the same once more without a queue, in this process ...")
            directly, direct_s = timed(lambda: add_up(measure(path) for path in paths))
            show_sums(by_queue, directly, headings=(f"queue, {queue_s:.1f} s", f"directly, {direct_s:.1f} s"))
            problems = [*audit(recorded(conn, run.id), run, paths), *differences(by_queue, directly), *show_stats()]
            worker.check()
            code = worker.stop()
        return [*problems, f"the worker ended with exit code {code}"] if code else problems


# -- the database --


@contextmanager
def alone() -> Iterator[psycopg.Connection[Any]]:
    """Be the only demo on this database, make our table, and leave no job alive, neither an earlier run's nor ours."""
    with psycopg.connect(pgqueue.app.dsn, autocommit=True) as conn:
        if conn.execute("select pg_try_advisory_lock(%s)", [DEMO_LOCK]).fetchone() != (True,):
            raise DemoError("another demo runs on this database: wait for its end")
        conn.execute(RUN_TABLE)
        cancel_leftovers("an earlier run")
        try:
            yield conn
        finally:
            cancel_leftovers("this run")


def cancel_leftovers(whose: str) -> None:
    """Cancel the jobs of a run that was cut short. They stay on record as cancelled."""
    alive = [
        job.id
        for task in (measure_file, summarise)
        for state in pgqueue.State
        if not state.ended
        for job in pgqueue.app.jobs(state=state, task=task.name, limit=EVERYTHING)
    ]
    cancelled = sum(pgqueue.app.cancel(job_id, reason=f"{whose} was cut short") for job_id in alive)
    if cancelled:
        say(f"{whose} was cut short: cancelled the {cancelled} jobs it had left")


def enqueue(paths: list[Path]) -> Run:
    """Our own row and all jobs, in one transaction: no job without the row, no row without its jobs."""
    flaky = set(paths[:: max(1, len(paths) // FLAKY)][:FLAKY])
    calls = [{"path": str(path), "fail_before_attempt": SUCCEEDS_AT if path in flaky else 1} for path in paths]
    with psycopg.connect(pgqueue.app.dsn) as conn:
        row = conn.execute("insert into corpus_run (files) values (%s) returning id", [len(paths)]).fetchone()
        run_id: int = row[0] if row else 0
        jobs = [job.id for job in measure_file.options(conn=conn).defer_many(calls)]
        conn.execute("update corpus_run set jobs = %s::uuid[] where id = %s", [jobs, run_id])
    return Run(run_id, jobs, [job for job, path in zip(jobs, paths, strict=True) if path in flaky])


def count_ended(conn: psycopg.Connection[Any], run: Run) -> int:
    """How many jobs of the run have ended, well or not."""
    row = conn.execute(ENDED.format(jobs=sql.Identifier(pgqueue.app.config.schema, "jobs")), [run.jobs]).fetchone()
    return row[0] if row else 0


# -- the run --


def through_queue(conn: psycopg.Connection[Any], run: Run, worker: Worker) -> Summary:
    """Wait for the files' jobs, then have a last job add up what they recorded."""
    follow(conn, run, worker)
    job = summarise.defer(run.id)
    deadline = time.monotonic() + SUM_S
    while True:
        worker.check()
        try:
            return job.result(timeout=1)
        except pgqueue.ResultTimeout:
            if time.monotonic() > deadline:
                raise


def follow(conn: psycopg.Connection[Any], run: Run, worker: Worker) -> None:
    """Show how far the jobs are until all have ended; raises DemoError when the worker dies or nothing moves."""
    total, before, moved_at = len(run.jobs), -1, time.monotonic()
    with progress(total) as show:
        while (ended := count_ended(conn, run)) < total:
            worker.check()
            now = time.monotonic()
            before, moved_at = ended, moved_at if ended == before else now
            if now - moved_at > STALL_S:
                raise worker.failed(f"the worker ended {ended} of {total} jobs, and none in the last {STALL_S:.0f} s")
            show(ended)
            time.sleep(LOOK_S)
        show(total)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work returns, and the seconds it took."""
    began = time.perf_counter()
    return work(), time.perf_counter() - began


# -- the verdict --


def audit(jobs: list[Recorded], run: Run, paths: list[Path]) -> list[str]:
    """Whether every file has exactly one job, which succeeded, and the flaky ones at the attempt they were told to."""
    unsuccessful = [f"job {job.job_id} is {job.state}" for job in jobs if job.state != pgqueue.State.SUCCEEDED]
    measured = Counter(job.measurement.path for job in jobs if job.measurement)
    wanted = Counter(map(str, paths))
    lost = [f"{path} has no result" for path in (wanted - measured)]
    doubled = [f"{path} has more than one result" for path in (measured - wanted)]
    attempts = {job.job_id: job.attempt for job in jobs}
    steady = [
        f"job {job_id} should have succeeded at attempt {SUCCEEDS_AT} after {SUCCEEDS_AT - 1} recorded failures"
        for job_id in run.flaky
        if attempts.get(job_id) != SUCCEEDS_AT or len(pgqueue.app.attempts(job_id)) != SUCCEEDS_AT - 1
    ]
    problems = unsuccessful + lost + doubled + steady
    if not problems:
        say(
            f"{len(jobs)} files, {len(jobs)} jobs that succeeded, none lost, none doubled; {len(run.flaky)} of them"
            f" at attempt {SUCCEEDS_AT}, with both failures on record"
        )
    return problems


def differences(by_queue: Summary, directly: Summary) -> list[str]:
    """What the two sums disagree about."""
    if by_queue == directly:
        say("both sums are equal")
        return []
    return [f"the sums differ: {by_queue} by the queue, {directly} directly"]


# -- the screen --


def say(text: str) -> None:
    """One line, broken by the terminal and not by us, so that it can be searched for."""
    console.print(text, soft_wrap=True)


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar, or a line now and then where there is no terminal; call the value with the number of ended jobs."""
    if not console.is_interactive:
        yield sparse_lines(total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("measured", total=total)
        yield lambda ended: bar.update(task, completed=ended)


def sparse_lines(total: int) -> Callable[[int], None]:
    """For a log file: a line every few seconds, and one at the end."""
    said_at = time.monotonic()

    def show(ended: int) -> None:
        nonlocal said_at
        if ended == total or time.monotonic() - said_at > SAY_S:
            said_at = time.monotonic()
            say(f"measured {ended} of {total}")

    return show


def show_sums(by_queue: Summary, directly: Summary, *, headings: tuple[str, str]) -> None:
    """Both sums side by side."""
    table = Table("sum of all files", *headings, title_justify="left")
    for left, right in zip(figures(by_queue), figures(directly), strict=False):
        table.add_row(*left, right[1])
    console.print(table)


def figures(summary: Summary) -> list[tuple[str, str]]:
    """A sum as named pieces of text."""
    longest = summary.longest
    return [
        ("files", f"{summary.files:,}"),
        ("of them not valid Python", f"{len(summary.unreadable):,}"),
        ("lines", f"{summary.lines:,}"),
        ("tokens", f"{sum(summary.tokens.values()):,}"),
        *((f"  {kind}", f"{count:,}") for kind, count in summary.tokens.items()),
        ("longest function", f"{longest.name}, {longest.lines} lines" if longest else "none"),
        ("sha256", summary.sha256[:16]),
    ]


def show_stats() -> list[str]:
    """The page of `pgqueue stats --once`, by that very command."""
    console.print("\npgqueue stats --once")
    code = subprocess.run([pgqueue_command(), "stats", "--once"], stdin=subprocess.DEVNULL, check=False).returncode
    return [f"`pgqueue stats --once` ended with exit code {code}"] if code else []


if __name__ == "__main__":
    sys.exit(main())
