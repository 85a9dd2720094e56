"""Flask: `PgQueue(flask_app)` takes the application's database, puts its context around jobs, and adds `flask pgqueue`.

`event_stream(...)` is the answer of a view that a browser follows live.
"""

from pgqueue.contrib.flask.extension import PgQueue
from pgqueue.contrib.flask.live import event_stream

__all__ = ["PgQueue", "event_stream"]
