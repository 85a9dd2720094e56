"""A database for each process that tests: cloned from a template, emptied before each test, dropped at the end.

The server is the one that PGQUEUE_TEST_DSN names, by a role that may create databases, else an embedded one for tests alone, which
does not wait for the disk. The app's own DSN is never looked at: a test must not meet the queue that somebody works with.
"""

import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgqueue import db, embedded
from pgqueue.app import App
from pgqueue.config import Config, environment
from pgqueue.errors import ConfigError
from pgqueue.queries import Queries
from pgqueue.queries.testing import KitQueries
from pgqueue.schema import script

# What begins so and has no living process is dropped; so nobody else names a database like this, not even pgqueue's own tests.
NAME_BEGINS = "pgqueue_kit_"
TEMPLATE = "pgqueue_template_"


def server_dsn() -> str:
    """Where databases may be made."""
    folder = Path(tempfile.gettempdir()) / f"pgqueue-tests-{os.getuid()}"
    return environment("PGQUEUE_TEST_DSN") or embedded.ensure(data_dir=folder, fsync=False)


@contextmanager
def clone(config: Config) -> Iterator[str]:
    """The DSN of a migrated database of this process's own; those of processes that were killed are dropped before."""
    server, queries, name = server_dsn(), KitQueries(config), NAME_BEGINS + uuid.uuid4().hex[:12]
    with db.connect(server, name="pgqueue tests") as admin:
        for found in db.run(admin, queries.databases(prefix=NAME_BEGINS)):
            if found.is_free:
                db.run(admin, queries.drop_database(found.name))
                db.run(admin, queries.unlock_name(found.name))
        db.run(admin, queries.lock_name(name))
        try:
            db.run(admin, queries.create_database(name, template=_template(admin, server, config)))
        except db.DatabaseError as error:
            raise ConfigError(
                f"no database for tests can be made at {db.describe(server)}: {str(error).splitlines()[0]}; PGQUEUE_TEST_DSN "
                "takes a role that may create databases, or let the fixture pgqueue_dsn return one that is there"
            ) from error
        try:
            yield db.with_database(server, name)
        finally:
            db.run(admin, queries.drop_database(name))


def _template(admin: db.Connection, server: str, config: Config) -> str:
    """Its name tells all that it was made of, so that the next run of the tests finds it."""
    queries = KitQueries(config)
    made_of = "".join(script(Queries(config)))
    name = TEMPLATE + hashlib.sha256(made_of.encode()).hexdigest()[:12]
    db.run(admin, queries.lock_name(name))  # of several processes one makes it
    (is_there,) = db.run(admin, queries.is_there(name))
    if not is_there:
        unfinished = f"{name}_new"
        db.run(admin, queries.drop_database(unfinished))
        db.run(admin, queries.create_database(unfinished, template="template1"))
        made = App(db.with_database(server, unfinished), schema=config.schema)
        made.migrate()
        made.close()
        db.run(admin, queries.rename_database(unfinished, template=name))
    db.run(admin, queries.unlock_name(name))
    return name


class Cleaner:
    """Empties the tables of one database, on a connection that stays open."""

    def __init__(self, dsn: str, config: Config) -> None:
        self._queries = KitQueries(config)
        self._conn = db.connect(dsn, name="pgqueue tests")
        db.run(self._conn, Queries(config).lock_patience())

    def clean(self) -> None:
        """Raises ConfigError where another session holds them."""
        try:
            db.run(self._conn, self._queries.clean())
        except db.Blocked:
            raise ConfigError(
                "the tables of jobs cannot be emptied: a test before this one left a transaction open, or a worker running"
            ) from None

    def close(self) -> None:
        self._conn.close()
