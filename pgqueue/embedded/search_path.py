"""Where a name without a schema belongs: in `public`. PostgreSQL's default is the schema called like the role, and here that is
ours, where a user's `create table event` would meet our own `event`.

Folders made before this was set may have users' tables in our schema, which would vanish from their sight. So each database is
looked at once: one that has such tables keeps what it had, and `pgqueue doctor` says how to move them.
"""

import logging

from pgqueue.config import Config
from pgqueue.db import Connection, DatabaseError, connect, run, with_database
from pgqueue.embedded.places import USER, Place
from pgqueue.errors import DatabaseUnavailable
from pgqueue.queries import Queries
from pgqueue.queries.statement import Row, Statement, sql_file
from pgqueue.schema.upgrade import strangers

logger = logging.getLogger("pgqueue.embedded")


def settle(place: Place) -> None:
    """With start.lock held, so that one process does it. Sessions that are open stay as they are.

    Databases that keep theirs are written first: a session that begins in between finds its tables either way. What cannot be
    asked now must not keep anybody from working: the next one to join asks again.
    """
    try:
        with connect(place.dsn(database="postgres")) as conn:
            for (database,) in run(conn, _statement("databases")):
                with connect(with_database(place.dsn(), database)) as other:
                    _keep(other, database)
            run(conn, _statement("set_path"))
    except (DatabaseUnavailable, DatabaseError) as error:
        logger.debug("the search_path was not set: %s", error)


def _keep(conn: Connection, database: str) -> None:
    """Keep what the database had, where somebody relies on it."""
    ((is_said, is_of_a_role),) = run(conn, _statement("has_other_path"))
    names = [stranger.name for stranger in run(conn, strangers(Queries(Config(schema=USER))))]
    if is_said or not (names or is_of_a_role):
        return
    run(conn, _statement("keep_path"))
    if names:
        told = ", ".join(names[:3]) + (", ..." if names[3:] else "")
        logger.warning(
            "the database %s has %s in pgqueue's own schema, and new tables of yours still go there: `pgqueue doctor` says how to "
            "move them", database, told,
        )  # fmt: skip


def _statement(name: str) -> Statement[Row]:
    return Statement(sql_file(f"embedded/{name}.sql"))
