"""The connection on which drains of this process speak to the database, kept from one to the next.

To open one and have each statement planned takes 20 ms, a drain on one that is there 2.
"""

import atexit
import os

from pgqueue import db
from pgqueue.app import App

_kept: dict[tuple[int, str], db.Connection] = {}


def kept(app: App) -> db.Connection:
    """The one to this app's database, with a worker's plans; raises DatabaseUnavailable."""
    key = os.getpid(), app.dsn  # nothing crosses a fork
    conn = _kept.get(key)
    if conn is None or conn.closed or conn.broken:
        if not _kept:
            atexit.register(close_kept)
        with app._database.explained():
            app._database._check_first()
            conn = _kept[key] = db.connect(app.dsn, name="pgqueue tests")
        db.run(conn, db.plan_steadily(conn, app.queries))
    return conn


def close_kept() -> None:
    """Close all that this process opened."""
    for key in [key for key in _kept if key[0] == os.getpid()]:
        _kept.pop(key).close()
