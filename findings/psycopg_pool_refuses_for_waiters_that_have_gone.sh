#!/usr/bin/env bash
# One would guess: a request that has timed out waits no longer. So get_stats()["requests_waiting"] is 0 when no thread
#   waits, and `max_waiting` refuses only while that many really do. The page "psycopg_pool - Connection pool
#   implementations" and the one on pools describe both as requests in the queue at present.
# What happens: whoever gives up stays in the queue until a connection turns up to be offered to it
#   (psycopg_pool/pool.py: only _add_to_pool and close() take anything out). While the server is away the figure grows
#   with each failed request, and once it is max_waiting every request is refused with TooManyRequests at once, though
#   the program has a single thread and nobody waits: a request with time to spare cannot wait for the server's return.
# Seen with: psycopg-pool 3.3.3, psycopg 3.3.9.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9' 'psycopg-pool==3.3.3'

"$work/venv/bin/python" - <<'PYTHON'
import logging
import socket
import sys

from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # it reports each failed attempt to connect

taken = socket.socket()
taken.bind(("127.0.0.1", 0))  # a port of our own on which nothing listens: a server that is away
dsn = f"host=127.0.0.1 port={taken.getsockname()[1]} dbname=any"

seen = []
with ConnectionPool(dsn, min_size=1, max_size=1, max_waiting=3, open=True) as pool:
    for _ in range(4):
        try:
            pool.getconn(timeout=0.2)
        except (PoolTimeout, TooManyRequests) as error:
            seen.append((type(error).__name__, pool.get_stats()["requests_waiting"]))
            print(f"{type(error).__name__}: {error}; afterwards waiting: {seen[-1][1]}")

expected = [("PoolTimeout", 1), ("PoolTimeout", 2), ("PoolTimeout", 3), ("TooManyRequests", 3)]
sys.exit(0 if seen == expected else f"the behaviour has changed: {seen}")
PYTHON
