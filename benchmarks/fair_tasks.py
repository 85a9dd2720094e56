"""The tasks of which one tenant is measured alone: each once as it is, and once with turns that nobody else takes."""

from benchmarks.tasks import nap
from pgqueue import App, Fair
from pgqueue.bench.tasks import noop


def alone(*args: object) -> str:
    """The key of all jobs."""
    return "alone"


def registered(app: App) -> App:
    """The App with all of these as its tasks."""
    for function in (noop, nap):
        app.task(name=function.__name__)(function)
        app.task(name=f"{function.__name__} in turn", fair=Fair(alone))(function)
    return app


app = registered(App())
