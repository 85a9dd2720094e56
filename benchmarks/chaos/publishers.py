"""Those who publish, as hostile as web applications are: they have their transaction id early, commit late, wait for each other's
rows, roll back savepoints and whole transactions. Each writes down what it intends before and what came of it after.
"""

import logging
import random
import threading
import time

import psycopg

from benchmarks.chaos import tasks
from benchmarks.chaos.ledger import Ledger
from pgqueue import App, OutcomeUnknown, db
from pgqueue.errors import DatabaseUnavailable

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # of a database that is away there is enough on the page
CHANNEL = "chaos"
TYPES = "chaos.*"
KEYS = 8
ROLLBACK = 0.1
ALONE = 0.2  # on a connection of the library, which tries again by itself
LATE_S = (0, 0, 0, 0, 0.01, 0.05, 0.4)  # between the event and its commit


class Publisher(threading.Thread):
    """Publishes in `turns` transactions, at about `rate` a second; each also notifies those who listen of its name."""

    def __init__(self, number: int, *, seed: int, dsn: str, ledger: Ledger, turns: int, rate: float) -> None:
        super().__init__(name=f"publisher {number}", daemon=True)
        self._chance = random.Random(f"{seed}/publisher {number}")
        self._number = number
        self._dsn = dsn
        self._ledger = ledger
        self._turns = turns
        self._rate = rate
        self._conn: psycopg.Connection | None = None

    def run(self) -> None:
        """Until all turns were taken."""
        app = App(self._dsn)
        for count in range(self._turns):
            turn = f"{self._number}.{count}"
            self._ledger.write("publish", turn=turn, outcome="begins")
            outcome = self._alone(app, turn) if self._chance.random() < ALONE else self._together(turn)
            self._ledger.write("publish", turn=turn, outcome=outcome)
            time.sleep(self._chance.expovariate(self._rate))
        app.close()
        if self._conn is not None:
            self._conn.close()

    def _alone(self, app: App, turn: str) -> str:
        try:
            app.publish("chaos.alone", turn)
        except OutcomeUnknown:
            return "unknown"
        except DatabaseUnavailable:
            return "error"
        return "ack"

    def _together(self, turn: str) -> str:
        """ack, rolled_back, error (nothing was committed) or unknown."""
        rolls_back, committing = self._chance.random() < ROLLBACK, False
        try:
            if self._conn is None or self._conn.closed:
                self._conn = psycopg.connect(self._dsn, autocommit=True, connect_timeout=3)
            with self._conn.transaction(force_rollback=rolls_back):
                self._publish(self._conn, turn)
                committing = not rolls_back
            return "rolled_back" if rolls_back else "ack"
        except (psycopg.Error, DatabaseUnavailable) as error:
            if self._conn is not None:
                self._conn.close()
            return "unknown" if committing and not db.is_refusal(error) else "error"

    def _publish(self, conn: psycopg.Connection, turn: str) -> None:
        chance = self._chance
        if chance.random() < 0.5:  # others publish and commit between this one's id and its event
            conn.execute("select pg_current_xact_id()")
            time.sleep(chance.random() * 0.03)
        # In one order, or those who wait for each other's keys would never end.
        for key in sorted(f"k{number}" for number in chance.sample(range(KEYS), chance.randint(1, 3))):
            ((nth,),) = conn.execute("update account set nth = nth + 1 where key = %s returning nth", [key])
            if chance.random() < 0.1:
                with conn.transaction(force_rollback=True):
                    tasks.app.publish("chaos.a", turn, key=key, conn=conn)
            event = tasks.app.publish(chance.choice(["chaos.a", "chaos.b"]), turn, key=key, conn=conn)
            conn.execute("insert into told (event, turn, key, nth) values (%s, %s, %s, %s)", [event, turn, key, nth])
        tasks.app.notify(CHANNEL, turn, conn=conn)
        time.sleep(chance.choice(LATE_S))
