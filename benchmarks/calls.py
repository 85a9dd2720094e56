"""What a call of enqueue() or uuid7() costs in SQL, in pairs with what it cost as first defined, one after the other.

As they are called: a statement of its own (many in one message, as from psql's -c, so that neither round trips nor commits count),
a statement within PL/pgSQL, a trigger for each row, and once for each row of one statement. What surrounds the call is in both
figures, so the call itself became cheaper than the ratio says.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import sql

from benchmarks.bench import Bench
from pgqueue import App
from pgqueue.bench.measurement import Measurement, Target, at_least, typical

FIRST = 5  # the last migration before the two were defined anew
PAIRS = 30
CALLS = 200  # of each side in a pair, in one statement or several
MANY_CALLS = 2_000  # of what takes microseconds
TIMES = at_least(4)

TABLES = """
create table {schema}.written (id integer, made uuid);
create function {schema}.write() returns trigger language plpgsql as $$
begin
  perform {schema}.enqueue('t', jsonb_build_array(new.id));
  return null;
end
$$;
create trigger written after insert on {schema}.written for each row when (new.made is null) execute function {schema}.write();
"""

Call = Callable[[psycopg.Connection, str], float]


def measure(bench: Bench) -> Iterator[Measurement]:
    before = App(bench.app.dsn, schema=f"{bench.app.config.schema}_first")
    before.migrate(up_to=FIRST)
    schemas = before.config.schema, bench.app.config.schema
    with bench.connect() as conn:
        for schema in schemas:
            conn.execute(_filled(TABLES, schema))
        old_server = conn.info.server_version < 180000  # later ones keep the plans of functions in SQL too
        for name, (call, target) in CALLED.items():
            yield from _figures(name, _pairs(bench, conn, call, schemas), target if old_server else None)
        conn.execute(_filled("drop table {schema}.written cascade; drop function {schema}.write", schemas[1]))
    before.close()


def _figures(name: str, pairs: list[tuple[float, float]], target: Target | None) -> Iterator[Measurement]:
    yield typical(f"{name}, as first defined", [first for first, _ in pairs], "us")
    yield typical(name, [now for _, now in pairs], "us")
    yield typical(f"{name}: times less", [first / now for first, now in pairs], "x", target)


def _pairs(bench: Bench, conn: psycopg.Connection, call: Call, schemas: tuple[str, str]) -> list[tuple[float, float]]:
    """Microseconds a call of the first definition and of today's; which goes first changes from pair to pair."""
    found = []
    for turn in range(bench.count(PAIRS) + 1):
        order = schemas if turn % 2 else schemas[::-1]
        took = {schema: call(conn, schema) for schema in order}
        found.append((took[schemas[0]], took[schemas[1]]))
        for schema in schemas:
            conn.execute(_filled("truncate {schema}.job, {schema}.written", schema))
    return found[1:]  # in the first pair, the session plans what it keeps


def _filled(text: LiteralString, schema: str, calls: int = CALLS) -> sql.Composed:
    return sql.SQL(text).format(schema=sql.Identifier(schema), calls=sql.Literal(calls))


def _statements(text: LiteralString, conn: psycopg.Connection, schema: str, calls: int = CALLS) -> float:
    return _sent(conn, b";".join([_filled(text, schema).as_bytes(conn)] * calls), calls)


def _statement(text: LiteralString, conn: psycopg.Connection, schema: str, calls: int = CALLS) -> float:
    return _sent(conn, _filled(text, schema, calls).as_bytes(conn), calls)


def _sent(conn: psycopg.Connection, said: bytes, calls: int) -> float:
    """Microseconds for each call."""
    began = time.perf_counter()
    result = conn.pgconn.exec_(said)
    took_s = time.perf_counter() - began
    if result.error_message:
        raise RuntimeError(result.error_message.decode())
    return took_s / calls * 1_000_000


CALLED: dict[str, tuple[Call, Target | None]] = {
    "enqueue() from psql": (partial(_statements, "select {schema}.enqueue('t', '[1]')"), TIMES),
    "enqueue() in PL/pgSQL": (
        partial(_statement, "do $$ begin for n in 1 .. {calls} loop perform {schema}.enqueue('t', '[1]'); end loop; end $$"), TIMES,
    ),
    "enqueue() in a trigger for each row": (
        partial(_statement, "do $$ begin for n in 1 .. {calls} loop insert into {schema}.written values (n); end loop; end $$"),
        TIMES,
    ),
    "enqueue() for each row of a statement": (
        partial(_statement, "select {schema}.enqueue('t', '[1]') from generate_series(1, {calls})"), None,
    ),
    "uuid7() from psql": (partial(_statements, "select {schema}.uuid7()", calls=MANY_CALLS), TIMES),
    "uuid7() in PL/pgSQL": (
        partial(
            _statement,
            "do $$ begin for n in 1 .. {calls} loop insert into {schema}.written values (n, {schema}.uuid7()); end loop; end $$",
            calls=MANY_CALLS,
        ),
        TIMES,
    ),
    "uuid7() for each row of a statement": (
        partial(_statement, "select {schema}.uuid7() from generate_series(1, {calls})", calls=MANY_CALLS), None,
    ),
}  # fmt: skip
