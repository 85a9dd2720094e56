"""Statements of the measurements."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pgqueue.queries.statement import Row, Statement, Texts


class RecordedBatch(NamedTuple):
    """How many jobs were recorded as succeeded at one moment."""

    at_s: float
    jobs: int


class ReturnedNumber(NamedTuple):
    """What a job returned, and when it was due."""

    id: str
    result: float
    run_at: datetime


class Creator(NamedTuple):
    """Who we are, where, and whether we may make a schema there."""

    role: str
    database: str
    allowed: bool


class Setting(NamedTuple):
    """One of the server, with its unit."""

    name: str
    value: str


class BenchQueries(Texts):
    """What measurements ask and clear away: the files of sql/bench."""

    def bench_batches(self, *, task: str) -> Statement[RecordedBatch]:
        return self._say("bench/batches", RecordedBatch, task=task)

    def bench_returned(self, *, ids: Sequence[str]) -> Statement[ReturnedNumber]:
        return self._say("bench/returned", ReturnedNumber, ids=ids)

    def bench_left(self) -> Statement[bool]:
        return self._values("bench/left")

    def bench_may_create(self) -> Statement[Creator]:
        return self._say("bench/may_create", Creator)

    def bench_settings(self) -> Statement[Setting]:
        return self._say("bench/settings", Setting)

    def bench_empty(self) -> Statement[Row]:
        return self._say("bench/empty")

    def bench_drop(self) -> Statement[Row]:
        return self._say("bench/drop")
