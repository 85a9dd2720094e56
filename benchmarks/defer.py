"""`defer` beside its bare INSERT, waiting for the disk at each commit, and without, which shows our own work undiluted."""

from collections.abc import Iterator
from statistics import median

from psycopg import sql

from benchmarks.bench import Bench
from pgqueue.bench import defer
from pgqueue.bench.measurement import Measurement, at_least, typical

TARGET = at_least(90)  # % of the rate of the bare INSERT
NOTES = {"on": "", "off": ", no wait for the disk"}  # by synchronous_commit


def measure(bench: Bench) -> Iterator[Measurement]:
    """The share is that of each pair of blocks; its median moves less than the rates themselves."""
    for setting, note in NOTES.items():
        _set_synchronous_commit(bench, setting)
        ours, bare = zip(*defer.pairs(bench), strict=True)
        shares = [100 * rate / base for rate, base in zip(ours, bare, strict=True)]
        yield typical(f"defer{note}", ours, "jobs/s", floor=median(bare))
        yield typical(f"defer, share of the bare INSERT{note}", shares, "%", TARGET)
    _set_synchronous_commit(bench, "on")


def _set_synchronous_commit(bench: Bench, setting: str) -> None:
    database = sql.Identifier(bench.database)
    bench.admin.execute(sql.SQL("alter database {} set synchronous_commit = {}").format(database, setting))
    bench.app.close()  # connections that are open keep the old setting
