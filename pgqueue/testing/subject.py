"""The App that the kit's functions are about where a call names none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pgqueue
from pgqueue.app import App
from pgqueue.config import environment
from pgqueue.errors import ConfigError

_under_test: list[App] = []


def subject(app: App | None = None) -> App:
    """The App given, else the one under test, else the default one. Raises ConfigError in production."""
    app = app or (_under_test[-1] if _under_test else pgqueue.app)
    if app not in _under_test and environment("PGQUEUE_ENV") == "production":
        raise ConfigError(
            "PGQUEUE_ENV is production, and pgqueue.testing runs jobs and moves their times: use a test database"
        )
    return app


@contextmanager
def under_test(app: App, dsn: str) -> Iterator[App]:
    """Within the block this App is the subject, and its database is this one, whatever its own settings say."""
    with app._database.elsewhere(dsn):
        _under_test.append(app)
        try:
            yield app
        finally:
            _under_test.remove(app)
