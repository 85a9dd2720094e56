"""A job that came without gates that its task or queue asks for: found out here, where the code is, and parked there.

It was put in by name, by plain SQL, for an event, or by a program that does not know of the limit yet.
"""

from typing import Any

from pgqueue.job import Outcome, Verdict
from pgqueue.worker.child.executor import Attempt


class Parking(Attempt):
    """An attempt that only says which gates the job has to pass. It costs nothing, unless the key cannot be told."""

    def execute(self, connection: Any) -> Outcome:
        """Name the gates."""
        try:
            args, kwargs = self._arguments()
            return self._outcome(Verdict.PARK, gates=self.task.all_gates(self.job, args, kwargs))
        except BaseException as error:
            return self.failed(error)

    execute_inside = execute

    async def execute_async(self, connection: Any) -> Outcome:
        """As `execute`."""
        return self.execute(connection)

    execute_inside_async = execute_async
