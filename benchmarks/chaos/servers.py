"""The database of a run: one server, or a primary with a synchronous standby, of which what was acknowledged survives.

After a fail-over the new primary's commits wait until it has a standby of its own: that is the price of losing nothing.
"""

from collections.abc import Callable

from benchmarks.chaos.cluster import Cluster


class Servers:
    """`primary` is where to write now; `fail_over` puts the standby in its place. A context manager."""

    def __init__(self, *, standby: bool) -> None:
        # The name under which Cluster.standby() has its receiver report.
        self.primary = Cluster(**({"synchronous_standby_names": "standby"} if standby else {}))
        self._with_standby = standby
        self._standby: Cluster | None = None

    def __enter__(self) -> "Servers":
        self.primary.make().start()
        if self._with_standby:
            self._standby = self.primary.standby()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._standby, self.primary):
            if server is not None:
                server.destroy()

    def fail_over(self, *, moved: Callable[[int], None]) -> None:
        """Kill the primary, promote the standby, tell its port, and give it a standby of its own."""
        if self._standby is None:
            raise RuntimeError("there is no standby to fail over to")
        lost, self.primary, self._standby = self.primary, self._standby, None
        lost.kill()
        self.primary.promote()
        moved(self.primary.port)
        self._standby = self.primary.standby()
        lost.destroy()
