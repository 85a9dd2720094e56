"""Flask: `PgQueue(flask_app)` takes the application's database, puts its context around jobs, and adds `flask pgqueue`."""

from pgqueue.contrib.flask.extension import PgQueue

__all__ = ["PgQueue"]
