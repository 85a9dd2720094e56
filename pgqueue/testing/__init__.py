"""Test an app with its jobs: run them in the test, see what was deferred, move time, break a worker.

`pgqueue guide testing` shows it. The fixtures of pytest are in the module `pgqueue_pytest`; nothing here needs pytest.
"""

from pgqueue.testing.assertions import assert_deferred, assert_not_deferred, deferred
from pgqueue.testing.call import Deferred
from pgqueue.testing.capture import Captured, captured
from pgqueue.testing.clock import Clock
from pgqueue.testing.draining import drain, drain_async
from pgqueue.testing.eager import eager
from pgqueue.testing.faults import answer_lost, child_killed, connection_lost
from pgqueue.testing.ran import Drained, Ran
from pgqueue.testing.running import run, run_async
from pgqueue.testing.worker_process import WorkerProcess

__all__ = [
    "Captured",
    "Clock",
    "Deferred",
    "Drained",
    "Ran",
    "WorkerProcess",
    "answer_lost",
    "assert_deferred",
    "assert_not_deferred",
    "captured",
    "child_killed",
    "connection_lost",
    "deferred",
    "drain",
    "drain_async",
    "eager",
    "run",
    "run_async",
]
