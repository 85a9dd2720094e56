"""The only importer of psycopg: connections, and the two doors through which every statement goes."""

import psycopg

from pgqueue.errors import DatabaseUnavailable

CONNECT_TIMEOUT_S = 3  # an unreachable host answers nothing for minutes otherwise


def connect(dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> psycopg.Connection:
    """Open one autocommit connection; raises DatabaseUnavailable with one line and without the password."""
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=max(2, round(timeout_s)))
    except psycopg.Error as error:
        raise DatabaseUnavailable(str(error)) from None
