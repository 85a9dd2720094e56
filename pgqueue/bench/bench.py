"""What every measurement is given: an App whose tables are its own, and how much to do in them."""

from collections.abc import Callable
from dataclasses import dataclass

from pgqueue import db
from pgqueue.app import App
from pgqueue.task import AnyTask

FULL = 100_000  # jobs of a drain at scale 1, at which a figure's targets are stated


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """app: its tables are its own. tasks: the module where a worker finds the same tasks.

    concurrency: children of a worker whose measurement does not say otherwise. scale: 1 is FULL jobs. repeat: samples of
    each rate. check: raises if the run is to end, asked before each sample.
    """

    app: App
    tasks: str
    concurrency: int
    scale: float
    repeat: int
    check: Callable[[], None] = lambda: None

    def count(self, full: int, *, least: int = 1) -> int:
        """This many things at full scale; fewer at a smaller one."""
        return max(least, round(full * self.scale))

    def task(self, name: str) -> AnyTask:
        """A task that is measured, by its name."""
        return self.app.tasks[name]

    def is_done(self) -> bool:
        """No job is left."""
        return self.app.run(self.app.queries.bench_left()) == [False]

    def empty(self) -> None:
        """Forget all jobs, so that each sample starts from the same tables."""
        self.check()
        with db.connect(self.app.dsn) as conn:
            db.run(conn, self.app.queries.bench_empty())
