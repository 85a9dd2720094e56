"""Test an app with its jobs: run them in the test, see what was deferred, move time, break a worker.

`pgqueue guide testing` shows it. The fixtures of pytest are in the module `pgqueue_pytest`; nothing here needs pytest.
"""

from pgqueue.testing.draining import drain, drain_async
from pgqueue.testing.ran import Drained, Ran

__all__ = ["Drained", "Ran", "drain", "drain_async"]
