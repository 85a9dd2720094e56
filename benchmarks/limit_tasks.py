"""The tasks whose limits are measured: each once as it is, and once with a limit that holds up nobody."""

from benchmarks.tasks import nap
from pgqueue import App, Fair, Limit
from pgqueue.bench.tasks import noop


def of_key(key: int) -> int:
    return 1


def alone(*args: object) -> str:
    """The key of all jobs."""
    return "alone"


def registered(app: App) -> App:
    """The App with all of these as its tasks."""
    for function in (noop, nap):
        app.task(name=function.__name__)(function)
        app.task(name=f"{function.__name__} in turn", fair=Fair(alone))(function)
    app.task(name="of_key")(of_key)
    app.task(name="of_key, 5 each", limit=Limit(5, key="key"))(of_key)
    app.task(name="of_key, 1,000 each", limit=Limit(1000, key="key"))(of_key)
    return app


app = registered(App())
