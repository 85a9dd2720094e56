"""A worker's statements about gates, sent by hand."""

from collections.abc import Collection
from typing import Any

import psycopg

from pgqueue import db
from pgqueue.gates.admit import Admitted, admit
from pgqueue.gates.limit import Rule
from pgqueue.queries import Queries


class Doorkeeper:
    """Looks at gates as a worker does."""

    def __init__(self, conn: psycopg.Connection[Any], queries: Queries, *, worker: str) -> None:
        self._conn = conn
        self._queries = queries
        self._worker = worker

    def fresh(self) -> list[str]:
        """The gates at which jobs wait that nobody has looked at."""
        (heads,) = db.run(self._conn, self._queries.heads(queues=None, unknown=[]))
        fresh: list[str] = heads.fresh
        return fresh

    def admit(self, gates: Collection[str], *after: Any) -> Admitted:
        """Look at these gates once."""
        _, admitted = db.run_together(self._conn, admit(self._queries, gates, worker=self._worker, after=after))
        return admitted

    def look(self) -> int:
        """Look at all that is fresh, and wherever that leads; how many may be claimed then."""
        gates, queued = set(self.fresh()), 0
        while gates:
            admitted = self.admit(gates)
            gates, queued = admitted.again, queued + admitted.queued
        return queued

    def sweep(self) -> set[str]:
        """The gates at which jobs wait though there is room."""
        found: set[str] = set()
        place, after = 1, ""
        while True:
            (swept,) = db.run(self._conn, self._queries.sweep(place=place, after=after, urgent=True))
            found.update(swept.gates)
            if swept.after is None:
                return found
            place, after = swept.place or 1, swept.after


def declare(conn: psycopg.Connection[Any], queries: Queries, **slots: int | None) -> None:
    """Rules of these names, as a worker's code would declare them."""
    rules = [Rule(name, n).as_json() for name, n in slots.items()]
    db.run(conn, queries.declare_gates(rules))
