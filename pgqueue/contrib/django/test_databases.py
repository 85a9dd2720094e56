"""Test databases: they are dropped and copied only while nobody else is connected, and we are somebody else."""

import functools
from collections.abc import Callable
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.creation import BaseDatabaseCreation

import pgqueue


def let_go() -> None:
    """From now on our connections are closed before Django drops or copies a test database. It sends no signal for that."""
    for name in "destroy_test_db", "clone_test_db":
        way = getattr(BaseDatabaseCreation, name)
        if not hasattr(way, "__wrapped__"):
            setattr(BaseDatabaseCreation, name, _alone(way))


def _alone(way: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(way)
    def alone(*args: Any, **kwargs: Any) -> Any:
        pgqueue.app.close()
        return way(*args, **kwargs)

    return alone


def check_allowed(conn: Any) -> None:
    """Where a test may not use the database, raise what Django, or pytest-django, raises there.

    Our own connection would pass by what they put in the way, and outside of their test database it would be the real one.
    """
    if "connect" in vars(conn):
        conn.connect()
    if BaseDatabaseWrapper.ensure_connection.__module__ == BaseDatabaseWrapper.__module__:
        return
    was_open = conn.connection is not None
    try:
        conn.ensure_connection()
    except SynchronousOnlyOperation:  # so it has come to Django's own
        return
    if not was_open:  # nobody would close it in a thread
        conn.close()
