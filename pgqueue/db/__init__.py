"""The only importer of psycopg: connections, pools, and the two doors through which every statement goes."""

from pgqueue.db.connections import (
    Wire,
    connect,
    connect_async,
    is_pooled,
    prepare_nothing,
    prepares,
    sever,
    wait_for_bell,
    wait_for_bell_async,
    wire,
)
from pgqueue.db.doors import (
    AnyConnection,
    AsyncConnection,
    Blocked,
    Connection,
    DatabaseError,
    is_async,
    is_idle,
    is_idle_autocommit,
    run,
    run_async,
    would_begin,
)
from pgqueue.db.dsn import CONNECT_TIMEOUT_S, describe
from pgqueue.db.meaning import explain, is_refusal, may_pass, may_repeat
from pgqueue.db.pools import PoolLife, pool, pool_async, writable

__all__ = [
    "CONNECT_TIMEOUT_S",
    "AnyConnection",
    "AsyncConnection",
    "Blocked",
    "Connection",
    "DatabaseError",
    "PoolLife",
    "Wire",
    "connect",
    "connect_async",
    "describe",
    "explain",
    "is_async",
    "is_idle",
    "is_idle_autocommit",
    "is_pooled",
    "is_refusal",
    "may_pass",
    "may_repeat",
    "pool",
    "pool_async",
    "prepare_nothing",
    "prepares",
    "run",
    "run_async",
    "sever",
    "wait_for_bell",
    "wait_for_bell_async",
    "wire",
    "would_begin",
    "writable",
]
