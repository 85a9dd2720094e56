"""Through each door the same is stored, column by column, as psycopg stores."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from pgqueue import App, Limit, Task
from pgqueue.db.doors.text import CopyFile, arguments, as_text, copy_lines, copy_target, numbered
from tests.doors.callers import ASYNC, SYNC, connect_asyncpg

AnyTask = Task[Any, Any, Any]
AWKWARD = [
    "a\tb", "a\nb", "a\r\nb", "back\\slash", r"\N", "\\.", "%", "%s", "%(id)s", "%%", ":x", "::text", "$1", "$$", "'", '"', "''",
    "{}", "[1, 2]", "null", "", " ", "ü", "☃", "🐘", "--", "/*", ";", "?", "\x7f", "\\u0000",
]  # fmt: skip
COLUMNS = (
    "task, queue, priority, state::text, run_at, expires_at, max_attempts, timeout_s, args, kwargs, headers, unique_key, "
    "gates, gate"
)
OPTIONS: list[dict[str, Any]] = [
    {},
    {
        "queue": "slow; --'\"%s🐘", "priority": -7, "at": datetime(2150, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC),
        "expires": datetime(2151, 1, 1, tzinfo=UTC), "max_attempts": 3, "timeout": timedelta(minutes=1),
        "headers": {"trace": "ü\t☃"},
    },
]  # fmt: skip


@pytest.fixture(params=[None, Limit(1, key="text", name="text")], ids=["free", "limited"])
def say(app: App, request: pytest.FixtureRequest) -> AnyTask:
    @app.task(name="say", limit=request.param)
    def say(text: str, *, louder: float = 1.5) -> None: ...

    return say


def stored(conn: psycopg.Connection) -> list[Any]:
    found = conn.execute(f"delete from pgqueue.job returning seq, {COLUMNS}").fetchall()
    rows = [row[1:] for row in sorted(found)]
    now = datetime.now(UTC)
    # What is due now has the time of its own statement.
    return [
        tuple("now" if isinstance(v, datetime) and abs(v - now) < timedelta(minutes=5) else v for v in row)
        for row in rows
    ]


def place(say: AnyTask, conn: Any, options: dict[str, Any]) -> None:
    for text in AWKWARD:
        say.options(conn=conn, **options).defer(text)
    say.options(conn=conn, **options).defer_many([(text,) for text in AWKWARD])
    say.options(conn=conn, unique=True, **options).defer_many([(text,) for text in AWKWARD])


async def place_async(say: AnyTask, conn: Any, options: dict[str, Any]) -> None:
    for text in AWKWARD:
        await say.options(conn=conn, **options).defer_async(text)
    await say.options(conn=conn, **options).defer_many_async([(text,) for text in AWKWARD])
    await say.options(conn=conn, unique=True, **options).defer_many_async([(text,) for text in AWKWARD])


def expected(say: AnyTask, dsn: str, conn: psycopg.Connection, options: dict[str, Any]) -> list[Any]:
    with psycopg.connect(dsn) as own:
        place(say, own, options)
    rows = stored(conn)
    assert [json.loads(row[8]) for row in rows[: len(AWKWARD)]] == [[text] for text in AWKWARD]
    return rows


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "all"])
@pytest.mark.parametrize("kind", SYNC)
def test_the_same_is_stored(
    say: AnyTask, dsn: str, conn: psycopg.Connection, kind: str, options: dict[str, Any]
) -> None:
    wanted = expected(say, dsn, conn, options)
    with SYNC[kind](dsn) as caller:
        place(say, caller.conn, options)
        caller.commit()
    assert stored(conn) == wanted


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "all"])
@pytest.mark.parametrize("kind", ASYNC)
def test_the_same_is_stored_by_async_doors(
    say: AnyTask, dsn: str, conn: psycopg.Connection, kind: str, options: dict[str, Any]
) -> None:
    wanted = expected(say, dsn, conn, options)

    async def scenario() -> None:
        async with ASYNC[kind](dsn) as caller:
            await place_async(say, caller.conn, options)
            await caller.commit()

    asyncio.run(scenario())
    assert stored(conn) == wanted


async def set_codecs(conn: Any) -> None:
    """What programs do to asyncpg: values of these types come and go as they like it."""
    for name in ("json", "jsonb"):
        await conn.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    for name in ("uuid", "timestamptz", "int2", "float4", "interval"):
        await conn.set_type_codec(
            name,
            encoder=lambda value: f"<{value}>",
            decoder=lambda text: f"<{text}>",
            schema="pg_catalog",
            format="text",
        )


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "all"])
def test_no_codec_of_the_callers_sees_our_values(
    say: AnyTask, dsn: str, conn: psycopg.Connection, options: dict[str, Any]
) -> None:
    wanted = expected(say, dsn, conn, options)

    async def scenario() -> None:
        from asyncpg import Record

        class Odd(Record):  # type: ignore[misc] # asyncpg allows it
            def __iter__(self) -> Iterator[Any]:
                return iter(["odd"])

        own = await connect_asyncpg(dsn, record_class=Odd)
        await set_codecs(own)
        async with own.transaction():
            await place_async(say, own, options)
        await own.close()

    asyncio.run(scenario())
    assert stored(conn) == wanted


# -- pure --


def test_places_are_numbered_in_order_and_once() -> None:
    text, places = numbered("select %(b)s::uuid, %(a)s = 'x', %(b)s, 5 %% 2, any (%(ids)s::uuid[]), %(s)s::\"a b\".t")
    assert text == "select $1::text::uuid, $2 = 'x', $1::text, 5 % 2, any ($3::uuid[]), $4::text::\"a b\".t"
    assert places == (("b", True), ("a", False), ("ids", False), ("s", True))
    assert arguments(places, {"a": 5, "b": 5, "ids": ["x"], "s": None}) == ("5", 5, ["x"], None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None), ("x", "x"), (5, "5"), (1.5, "1.5"), (["a", None], ["a", None]),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2020, 1, 2, 3, 4, 5, 6, UTC), "2020-01-02T03:04:05.000006+00:00"),
    ],
)  # fmt: skip
def test_values_as_text(value: Any, text: Any) -> None:
    assert as_text(value) == text


def test_the_target_of_our_copy_is_read(app: App) -> None:
    target = copy_target(app.queries.copy([]).sql)
    assert (target.schema, target.table) == ("pgqueue", "job")
    assert target.columns[0] == "id" and target.columns[-1] == "headers" and len(target.columns) == 12


def test_a_file_of_rows_gives_what_is_asked_for() -> None:
    rows = [(number, "a\tb\\", None) for number in range(2500)]
    whole = "".join(copy_lines(rows))
    assert whole.splitlines()[7] == "7\ta\\tb\\\\\t\\N"
    for size in (100, 8192, 10_000_000, -1):
        file, parts = CopyFile(rows), []
        while part := file.read(size):
            parts.append(part)
        assert "".join(parts) == whole and (size < 0 or all(len(part) <= size for part in parts))
