"""Those who defer: each writes down what it intends before and what came of it after every COMMIT."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg

from benchmarks.chaos import tasks
from benchmarks.chaos.ledger import Ledger
from pgqueue import db
from pgqueue.errors import DatabaseUnavailable

ROLLBACK = 0.05
KEYED = 0.33  # have a unique key, and try again when the outcome is unknown
POISON = 0.001
FAMILIES = {
    "tx": 8,
    "ext": 8,
    "fail": 4,
    "uniq": 4,
    "snooze": 1,
    "report": 1,
    "fork": 1,
    "context": 1,
}  # how often, beside each other
UNIQUE_KEYS = 200
BULK_SIZE = 60
GATED = {"limited": 5, "crowd": 1, "in_line": 4, "paced": 2}  # how often, beside each other
TENANTS = 3
LINES = 3  # of each producer, whose jobs have an order, as it commits one before it begins the next
CROWD = 8


class Producer(threading.Thread):
    """Defers `jobs` jobs at about `rate` a second over one connection at a time; each job with a row beside it."""

    def __init__(
        self,
        number: int,
        *,
        seed: int,
        dsn: str,
        ledger: Ledger,
        jobs: int,
        rate: float,
        long_share: float,
        long_s: float,
        bulk_share: float,
        gated_share: float,
    ) -> None:
        super().__init__(name=f"producer {number}", daemon=True)
        self._chance = random.Random(f"{seed}/{number}")
        self._number = number
        self._dsn = dsn
        self._ledger = ledger
        self._jobs = jobs
        self._rate = rate
        self._long_share = long_share
        self._long_s = long_s
        self._bulk_share = bulk_share
        self._gated_share = gated_share
        self._in_line: Counter[str] = Counter()
        self._conn: psycopg.Connection | None = None
        self.over = threading.Event()

    def run(self) -> None:
        """Until all are deferred, or `over` is set."""
        try:
            for count in range(self._jobs):
                if self.over.is_set():
                    return
                self._defer(f"{self._number}.{count}")
                self.over.wait(self._chance.expovariate(self._rate))
        finally:
            self._forget()

    def _defer(self, key: str) -> None:
        chance = self._chance
        place, family = self._choose(key)
        rolls_back, keyed = chance.random() < ROLLBACK, family != "uniq" and chance.random() < KEYED
        options: dict[str, Any] = {"unique": f"key {key}", "on_duplicate": "ignore"} if keyed else {}
        self._ledger.write("intent", key=key, family=family)
        outcome = ""
        while True:
            before, outcome = outcome, self._once(key, place, options, rolls_back=rolls_back)
            if before == "unknown" and outcome == "error":  # that the second try failed says nothing of the first
                outcome = before
            self._ledger.write(outcome, key=key)
            if outcome != "unknown" or not keyed or self.over.is_set():
                return
            time.sleep(0.05)

    def _once(self, key: str, place: Callable[..., Any], options: dict[str, Any], *, rolls_back: bool) -> str:
        """ack, rolled_back, error (nothing was committed), deadlock, or unknown."""
        committing = False
        try:
            conn = self._connected()
            with conn.transaction(force_rollback=rolls_back):
                new = conn.execute("insert into placed (key) values (%s) on conflict do nothing returning key", [key])
                if new.fetchone():  # else the COMMIT whose answer was lost had arrived
                    place(conn=conn, **options)
                committing = not rolls_back
            return "rolled_back" if rolls_back else "ack"
        except psycopg.errors.DeadlockDetected:
            return "deadlock"
        except (psycopg.Error, DatabaseUnavailable) as error:
            if self._conn is not None and self._conn.closed:
                self._forget()
            return "unknown" if committing and not db.is_refusal(error) else "error"

    def _choose(self, key: str) -> tuple[Callable[..., Any], str]:
        chance = self._chance
        drawn = chance.random()
        if drawn < POISON:
            return _one(tasks.poison, key), "poison"
        if drawn < POISON + self._long_share:
            return _one(tasks.long, key, round(chance.uniform(0.3, 1) * self._long_s, 2)), "long"
        if drawn < POISON + self._long_share + self._bulk_share:
            return self._many(key), "uniq"
        if drawn < POISON + self._long_share + self._bulk_share + self._gated_share:
            return self._gated(key)
        (family,) = chance.choices(list(FAMILIES), list(FAMILIES.values()))
        if family == "uniq":
            return self._many(key, size=1), "uniq"
        if family in ("fail", "snooze"):
            return _one(getattr(tasks, family), key, chance.randint(1, 3)), family
        if family == "fork":
            return _one(tasks.fork, key, chance.choice(["return", "raise", "exit"])), family
        return _one(getattr(tasks, family), key), family

    def _gated(self, key: str) -> tuple[Callable[..., Any], str]:
        chance = self._chance
        (family,) = chance.choices(list(GATED), list(GATED.values()))
        tenant = f"t{chance.randrange(TENANTS)}"
        if family == "limited":
            return _one(tasks.limited, key, tenant, chance.random() < 0.3), family
        if family == "crowd":  # of these none is single: see the checker
            calls = [(f"{key}/{n}", tenant, False) for n in range(CROWD)]
            return lambda conn, **_: tasks.limited.options(conn=conn).defer_many(calls), "uniq"
        if family == "paced":
            return _one(tasks.paced, key), family
        line = f"{self._number}.{chance.randrange(LINES)}"
        self._in_line[line] += 1
        return _one(tasks.in_line, key, line, self._in_line[line]), family

    def _many(self, key: str, *, size: int = BULK_SIZE) -> Callable[..., Any]:
        """Unique jobs that everybody fights over; several at once in an order of their own."""
        names = self._chance.sample([f"u{n}" for n in range(UNIQUE_KEYS)], size)

        def place(**options: Any) -> None:
            # unique=True makes the key of the arguments: the same name is the same job.
            tasks.ext.options(unique=True, on_duplicate="ignore", **options).defer_many([(name,) for name in names])

        return place

    def _connected(self) -> psycopg.Connection:
        if self._conn is None or self._conn.closed:
            self._conn = psycopg.connect(self._dsn, autocommit=True, connect_timeout=3)
        return self._conn

    def _forget(self) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None


def _one(task: Any, *args: Any) -> Callable[..., Any]:
    return lambda **options: task.options(**options).defer(*args)
