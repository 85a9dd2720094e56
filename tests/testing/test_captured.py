"""What a block defers is seen without a database, and a failed assertion tells what was deferred."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import psycopg
import pytest
from sqlalchemy import create_engine

from pgqueue import App, ConfigError, InvalidArguments, InvalidOption
from pgqueue.testing import assert_deferred, assert_not_deferred, captured, deferred
from tests.answers import one_value
from tests.testing import tasks

shop = App("postgresql://nobody@nowhere.invalid/nothing")


@shop.task(queue="mail", priority=3)
def send(address: str, copies: int = 1, *, when: datetime | None = None, tags: tuple[str, ...] = ()) -> None: ...


def test_nothing_is_inserted_and_no_database_asked() -> None:
    moment = datetime(2030, 1, 2, tzinfo=UTC)
    with captured() as jobs:
        made = send.options(delay=60, unique="one", max_attempts=2, timeout=5, headers={"a": 1}).defer(
            "x@y", when=moment
        )
    (call,) = jobs
    assert (call.id, call.task, call.args, call.kwargs) == (made.id, send.name, ["x@y"], {"when": moment})
    assert (call.queue, call.priority, call.delay, call.unique) == ("mail", 3, 60.0, "one")
    assert (call.max_attempts, call.timeout, call.headers, call.expires, call.at) == (2, 5.0, {"a": 1}, None, None)


def test_every_way_to_defer_is_seen() -> None:
    async def test() -> None:
        await send.defer_async("3")
        await send.defer_many_async([("4",)])
        await shop.enqueue_async(send.name, ["5"])

    with captured() as jobs:
        send.defer("1")
        assert len(send.defer_many([("2",), {"address": "2b"}])) == 2
        asyncio.run(test())
        shop.enqueue("another.name", [6], queue="far")
    assert [call.args for call in jobs.of(send)] == [["1"], ["2"], [], ["3"], ["4"], ["5"]]
    assert [(call.queue, call.args) for call in jobs.of("another.name")] == [("far", [6])]


def test_what_would_be_refused_is_refused() -> None:
    wrong: Any = object()
    engine: Any = create_engine("postgresql+psycopg://")
    with captured() as jobs:
        with pytest.raises(InvalidArguments):
            send.defer(wrong)
        with pytest.raises(ConfigError, match="an Engine has no transaction"):
            send.options(conn=engine).defer("x")
        with pytest.raises(InvalidArguments):
            send.options(headers={"a": object()}).defer("x")
    assert jobs == []


def test_blocks_nest_and_end() -> None:
    with captured() as outer:
        with captured(app=tasks.app) as other, captured() as inner:
            send.defer("1")
        send.defer("2")
    assert [len(each) for each in (outer, inner, other)] == [2, 1, 0]
    assert App.insert.__module__ == "pgqueue.app"


def test_or_inserted_as_well(app: App, conn: psycopg.Connection) -> None:
    with captured(insert=True) as jobs:
        first = tasks.add.options(unique="one").defer(1, 2)
        second = tasks.add.options(unique="one").defer(1, 2)
        tasks.add.defer_many([(3, 4)])
    assert [call.id for call in jobs[:2]] == [first.id, first.id] and not second.created
    assert one_value(conn, "select count(*) from pgqueue.job") == 2


def test_a_call_is_found_however_it_was_written() -> None:
    with captured() as jobs:
        send.options(unique=True).defer("x@y", copies=1, tags=("a", "b"))
        jobs.assert_deferred(send)
        jobs.assert_deferred(send, address="x@y", tags=("a", "b"))
        jobs.assert_deferred(send, "x@y", 1, tags=ANY, _queue="mail", _unique=True, _delay=None, _times=1)
        jobs.assert_not_deferred(send, "x@y")
        assert assert_deferred(send, ANY, tags=("a", "b")) is jobs[0]  # of the open block
        assert_not_deferred(send, ANY, 2, tags=ANY)


def test_the_closest_call_is_shown() -> None:
    with captured() as jobs:
        send.defer("far@away", 5)
        send.options(queue="bulk", delay=30).defer("x@y", 2)
        shop.enqueue("another.name")
    with pytest.raises(AssertionError) as caught:
        jobs.assert_deferred(send, "x@y", 1, _queue="mail", _delay=timedelta(seconds=30))
    assert str(caught.value).splitlines() == [
        f"{send.name} was not deferred like this. The closest call is {send.name}('x@y', 2), which differs:",
        "  copies: expected 1, was 2",
        "  queue: expected 'mail', was 'bulk'",
        "Other calls of it:",
        f"  {send.name}('far@away', 5)",
    ]
    with pytest.raises(
        AssertionError, match=r"not_there was not deferred; deferred were: .*\.send \(2\), another.name \(1\)"
    ):
        jobs.assert_deferred("not_there")
    with pytest.raises(AssertionError, match=r"was deferred 1 times like this, not 2:\n  .*\('x@y', 2\)"):
        jobs.assert_deferred(send, "x@y", 2, _times=2)
    with pytest.raises(AssertionError, match=r"was deferred:\n  .*\('far@away', 5\)"):
        jobs.assert_not_deferred(send)
    with pytest.raises(AssertionError, match="deferred were: no jobs at all"):
        jobs[:0] = []
        type(jobs)(None, insert=False).assert_deferred(send)


def test_an_assertion_that_cannot_be_is_no_assertion() -> None:
    with captured() as jobs:
        with pytest.raises(TypeError, match="missing a required argument: 'address': no such call"):
            jobs.assert_deferred(send, copies=1)
        with pytest.raises(InvalidOption, match="takes no option '_queu'; did you mean '_queue'"):
            jobs.assert_deferred(send, "x", _queu="mail")


def test_the_database_is_looked_at_where_no_block_is_open(app: App, dsn: str) -> None:
    at = datetime.now(UTC) + timedelta(days=1)
    tasks.add.options(at=at, expires=90_000, queue="far", timeout=2).defer(1, b=2)
    tasks.add.options(unique=True, delay=60).defer(3, 4)
    app.enqueue("by.name", [1], {"x": 2})
    assert_deferred(tasks.add, 1, 2, _at=at, _expires=90_000, _queue="far", _timeout=2.0, _times=1)
    assert_deferred(tasks.add, 3, 4, _unique=True, _delay=60, _priority=0)
    assert_deferred("by.name", 1, x=2)
    assert_not_deferred(tasks.add, 1, 2, _delay=60)
    with pytest.raises(AssertionError, match=r"add\(3, 4\), which differs:\n  b: expected 5, was 4\nOther calls of it"):
        assert_deferred(tasks.add, 3, 5)
    with psycopg.connect(dsn) as conn:
        tasks.add_later.options(conn=conn).defer(1, 1)
        assert_not_deferred(tasks.add_later)
        assert_deferred(tasks.add_later, _conn=conn)
        assert len(deferred(conn=conn)) == 4
        conn.rollback()
