"""What is refused in a batch is found, and all else is written once."""

import asyncio
import math
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import DatabaseUnavailable
from pgqueue.queries import Statement
from pgqueue.worker.supervisor.connection import WorkConnection
from pgqueue.worker.supervisor.sieve import ENOUGH, MAX_REFUSAL, Refused, in_ascii, run_or_refuse, sift

WRONG_VALUE = psycopg.errors.NumericValueOutOfRange("out of range")
WRONG_STATEMENT = psycopg.errors.UndefinedTable("no such table")


class Server:
    """Refuses every part that holds one of `bad`, with `error`, and all of them while `closed`; keeps what it took."""

    def __init__(self, bad: Collection[int], error: Exception = WRONG_VALUE, *, closed: bool = False) -> None:
        self._bad, self._error, self._closed = set(bad), error, closed
        self.parts: list[list[int]] = []
        self.taken: list[int] = []

    async def send(self, part: Sequence[int]) -> None:
        self.parts.append(list(part))
        if self._closed or self._bad & set(part):
            raise Refused(self._error)
        self.taken += part

    def sift(self, batch: Sequence[int]) -> list[int]:
        """What was refused of these."""
        return [item for item, _ in asyncio.run(sift(self.send, batch))]


def test_what_is_not_refused_is_sent_in_one_part() -> None:
    server = Server(())
    assert server.sift([1, 2, 3]) == []
    assert server.parts == [[1, 2, 3]]


@given(st.lists(st.integers(), unique=True, min_size=1, max_size=60), st.data())
def test_wrong_values_are_found_and_all_else_is_taken_once_in_order(batch: list[int], data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.sampled_from(batch)))
    server = Server(bad)
    assert server.sift(batch) == [item for item in batch if item in bad]
    assert server.taken == [item for item in batch if item not in bad]


@pytest.mark.parametrize("wrong", [0, 371, 999])
def test_one_among_a_thousand_is_found_by_halves(wrong: int) -> None:
    server = Server({wrong})
    assert server.sift(range(1000)) == [wrong]
    assert len(server.parts) <= 1 + 2 * math.ceil(math.log2(1000))


def test_one_alone_is_to_blame_only_if_the_statement_passes_without_it() -> None:
    server = Server({1})
    assert server.sift([1]) == [1]
    assert server.parts == [[1], []]
    with pytest.raises(Refused, match="out of range"):
        Server({1}, closed=True).sift([1])


@given(st.sets(st.integers(0, 39), min_size=1, max_size=40))
def test_a_refusal_that_names_no_value_is_looked_for_too(bad: set[int]) -> None:
    server = Server(bad, WRONG_STATEMENT)
    if len(bad) == 40:
        with pytest.raises(Refused, match="no such table"):
            server.sift(range(40))
    elif len(bad) < ENOUGH:
        assert sorted(server.sift(range(40))) == sorted(bad)
        assert sorted(server.taken) == sorted({*range(40)} - bad)
        assert server.parts[1] == []


def test_a_statement_that_is_refused_with_nothing_in_it_is_nobodys_fault() -> None:
    server = Server((), WRONG_STATEMENT, closed=True)
    with pytest.raises(Refused):
        server.sift([1, 2, 3])
    assert server.parts == [[1, 2, 3], []]


def test_where_nothing_passes_the_search_is_given_up() -> None:
    """Of values it goes on: each of them may be wrong by itself."""
    server = Server(range(100), WRONG_STATEMENT)
    with pytest.raises(Refused):
        server.sift(range(100))
    assert sum(len(part) == 1 for part in server.parts) == ENOUGH
    assert Server(range(100)).sift(range(100)) == [*range(100)]


def test_where_one_has_passed_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "sample", lambda batch, count: [*batch])  # the good one is met first
    bad = range(1, 40)
    assert Server(bad, WRONG_STATEMENT).sift(range(40)) == [*bad]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain", "plain"), ("é", "\\xe9"), ("\0", "\\x00"), ("\ud800", "\\ud800"), ("€\n", "\\u20ac\n")],
    ids=ascii,
)
def test_a_reason_fits_any_database(text: str, shown: str) -> None:
    assert in_ascii(text) == shown


@pytest.mark.parametrize(
    ("said", "line"),
    [("first\nsecond", "first"), ("", "DataError"), ("x" * 1000, "x" * MAX_REFUSAL)],
    ids=["lines", "none", "long"],
)
def test_a_refusal_is_told_in_one_short_line(said: str, line: str) -> None:
    assert Refused(psycopg.DataError(said)).line == line


class Line:
    """A connection on which every statement ends like this."""

    def __init__(self, end: Exception | list[Any]) -> None:
        self._end = end

    async def run(self, statement: Statement[Any]) -> list[Any]:
        if isinstance(self._end, Exception):
            raise self._end
        return self._end


def said(end: Exception | list[Any], statement: Callable[[], Statement[Any]] = lambda: Statement("select 1")) -> Any:
    return asyncio.run(run_or_refuse(cast(WorkConnection, Line(end)), statement))


def test_rows_come_back_as_they_are() -> None:
    assert said([("j1",)]) == [("j1",)]


@pytest.mark.parametrize("error", [WRONG_VALUE, WRONG_STATEMENT], ids=["value", "statement"])
def test_what_will_never_pass_is_a_refusal(error: Exception) -> None:
    with pytest.raises(Refused) as caught:
        said(error)
    assert caught.value.error is error
    assert caught.value.of_values is (error is WRONG_VALUE)


@pytest.mark.parametrize(
    "error", [psycopg.errors.DeadlockDetected(), DatabaseUnavailable("away"), OSError()], ids=["deadlock", "away", "os"]
)
def test_what_may_pass_is_none(error: Exception) -> None:
    with pytest.raises(type(error)):
        said(error)


def test_a_statement_that_cannot_be_made_is_a_refusal() -> None:
    def unmade() -> Statement[Any]:
        raise OverflowError("an int of 9 bytes")

    with pytest.raises(Refused, match="9 bytes"):
        said([], unmade)
