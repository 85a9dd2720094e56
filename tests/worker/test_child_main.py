"""A child's threads: whose outcomes wait for company, and never for a job that runs on."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pgqueue import App
from pgqueue.worker.child.contexts import Contexts
from pgqueue.worker.child.main import ChildMain
from pgqueue.worker.link.greeting import ChildSetup
from pgqueue.worker.link.running_slots import RunningSlots, blank
from tests.untyped import untyped
from tests.worker.parts import claimed


class NotingOutgoing:
    """Outcomes are late only when the test says so; `sent` are the ids that have left."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.waiting_since = math.inf
        self.sent: list[str] = []

    @property
    def empty(self) -> bool:
        return not self.waiting

    def add(self, outcome: Any, began: float, ended: float) -> None:
        self.waiting.append(outcome.job_id)

    def flush(self) -> None:
        self.sent += self.waiting
        self.waiting.clear()


def heard(*messages: list[Any]) -> Iterator[list[Any]]:
    yield from messages
    raise ConnectionAbortedError


@pytest.mark.parametrize("threads", [1, 2])
def test_no_outcome_waits_for_a_job_that_the_same_thread_takes_next(threads: int) -> None:
    """With --threads the supervisor does not ask back what is no more than one job for each, so nothing else would flush."""
    app, outgoing = App(), NotingOutgoing()
    seen: list[list[str]] = []

    @app.task(name="quick")
    def quick() -> None: ...

    @app.task(name="long")
    def long() -> None:
        seen.append(list(outgoing.sent))  # what had left when it began

    setup = ChildSetup(
        app="app", threads=threads, weigh=False, log_level=None, log_format="", worker="w", application_name="pgqueue:w"
    )
    child = ChildMain(
        untyped(outgoing), RunningSlots(blank(slots=threads), slots=threads), app, setup,
        contexts=Contexts(), copies=untyped(SimpleNamespace(inside=False)), loop=untyped(None),
    )  # fmt: skip
    first, second, last = "a" * 36, "b" * 36, "c" * 36
    jobs = [claimed(first, "quick"), claimed(second, "quick"), claimed(last, "long")]
    with pytest.raises(ConnectionAbortedError):  # at the end of the stream the real reader ends its process
        child.read(heard(["run", jobs], ["stop"]))
    child.run()
    # One thread works through a frame in one message; whether its last job turns out long, the supervisor sees by itself.
    assert seen == [[] if threads == 1 else [first, second]]
    assert outgoing.sent == [first, second, last]
