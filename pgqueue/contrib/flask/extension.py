"""The extension that a Flask program makes: `queue = PgQueue()`, then `queue.init_app(flask_app)`."""

from collections.abc import Generator

from flask import Flask

import pgqueue
from pgqueue.app import App
from pgqueue.context import CurrentJob
from pgqueue.contrib.flask.command import command_for
from pgqueue.contrib.flask.configured import Configured
from pgqueue.errors import ConfigError
from pgqueue.job import Outcome

NAME = "pgqueue"
"""In `flask_app.extensions`."""


class PgQueue:
    """pgqueue in a Flask program. `app`: the App whose tasks it runs; default: the one that `from pgqueue import task` uses.

    The application's configuration names the database: PGQUEUE_DSN, else SQLALCHEMY_DATABASE_URI; other settings likewise,
    as PGQUEUE_SCHEMA. Every job runs inside an application context of its own. When the job has ended its teardown functions get
    the job's exception, and Flask-SQLAlchemy returns the session's connection. `flask pgqueue worker` runs jobs.
    """

    def __init__(self, flask_app: Flask | None = None, *, app: App | None = None) -> None:
        self.app = app or pgqueue.app
        self.task = self.app.task
        self.flask_app: Flask | None = None
        """The application that was initialised last."""
        if flask_app is not None:
            self.init_app(flask_app)

    def init_app(self, flask_app: Flask) -> None:
        """Prepare an application; nothing is connected. Raises ConfigError for a setting that does not exist."""
        configured = Configured(flask_app)
        configured.check_names()
        first = self.flask_app is None
        self.flask_app = flask_app
        self.app.bind(configured)
        if first:
            self.app.middleware(self._inside_context)
        flask_app.extensions[NAME] = self
        flask_app.cli.add_command(command_for(self.app))

    def _inside_context(self, job: CurrentJob) -> Generator[None, Outcome, None]:
        assert self.flask_app is not None
        context = self.flask_app.app_context()
        context.push()
        yield
        context.pop(job.exception)


def extension_of(flask_app: Flask) -> PgQueue:
    """The one that was initialised with it; raises ConfigError if none was."""
    found = flask_app.extensions.get(NAME)
    if not isinstance(found, PgQueue):
        raise ConfigError(
            f"the Flask application {flask_app.import_name} has no pgqueue: write PgQueue(flask_app) from pgqueue.contrib.flask"
        )
    return found
