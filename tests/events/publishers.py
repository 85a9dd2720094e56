"""Publishers as hostile as a web application may be: they draw their transaction ids early, commit late, wait for each other's
rows, roll back savepoints and whole transactions; one stays open nearly all the time."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pgqueue import App

KEYS = 20
SEVERAL = 8


class Hostile:
    """Publishes numbers for so many seconds, each key's in the order of its commits; `sent` are the events that were committed."""

    def __init__(self, app: App, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds
        self._lock = threading.Lock()
        self.sent: dict[str, tuple[str | None, int]] = {}
        self.committed_at: dict[str, float] = {}
        with psycopg.connect(app.dsn, autocommit=True) as conn:
            conn.execute(
                "create schema shop; create table shop.other (n int); create table shop.account (k text primary key, n int)"
            )
            conn.execute("insert into shop.account select 'k' || g, 0 from generate_series(1, %s) as g", [KEYS])

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the block they may still publish; they have ended after it."""
        self._until = time.monotonic() + self._seconds
        threads = [threading.Thread(target=self._several, args=(n,)) for n in range(SEVERAL)]
        threads.append(threading.Thread(target=self._long))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()

    @property
    def over(self) -> bool:
        return time.monotonic() > self._until

    def _note(self, event: str, key: str | None, number: int) -> None:
        with self._lock:
            self.sent[event] = key, number
            self.committed_at[event] = time.monotonic()

    def _several(self, seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(self._app.dsn) as conn:
            while not self.over:
                self._one(conn, chance)

    def _one(self, conn: psycopg.Connection, chance: random.Random) -> None:
        if chance.random() < 0.5:  # the transaction has its id long before the event
            conn.execute("insert into shop.other values (1)")
            time.sleep(chance.random() * 0.02)
        key = f"k{chance.randint(1, KEYS)}"
        ((number,),) = conn.execute("update shop.account set n = n + 1 where k = %s returning n", [key])
        if chance.random() < 0.2:
            with conn.transaction():
                self._app.publish("t", number, key=key, conn=conn)
                raise psycopg.Rollback
        with conn.transaction():
            event = self._app.publish("t", number, key=key, conn=conn)
        time.sleep(chance.choice([0, 0, 0, 0.005, 0.03]))
        if chance.random() < 0.1:
            conn.rollback()
            return
        conn.commit()
        self._note(event, key, number)

    def _long(self) -> None:
        with psycopg.connect(self._app.dsn) as conn:
            event = self._app.publish("t", 0, conn=conn)
            while not self.over:
                time.sleep(0.01)
            conn.commit()
        self._note(event, None, 0)


class Naive:
    """Reads what is above the largest number that it has seen, as is often done: beside late commits it loses events."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._last = 0

    def look(self, conn: psycopg.Connection) -> None:
        for event, seq in conn.execute(
            "select id::text, seq from pgqueue.event where seq > %s order by seq", [self._last]
        ):
            self.seen.add(event)
            self._last = seq
