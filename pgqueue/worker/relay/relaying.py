"""One lane of a relay: reads pages of events, sends them to the bus, and moves the place when the bus has acknowledged them.

No transaction is open while the bus answers: the lane is held by a lease, which the reader's thread renews. What was sent and not
acknowledged, or acknowledged and not recorded, is sent again with the same numbers.
"""

import logging
import random
import threading
from collections.abc import Sequence

from pgqueue.app import App
from pgqueue.buses.bus import Bus, RelayedEvent, connect
from pgqueue.errors import BusRefused, BusUnavailable
from pgqueue.events import RELAY_ATTEMPTS, RELAY_BATCH
from pgqueue.events.line import ReaderLine
from pgqueue.events.reader import EventPage, Reader, Stopped
from pgqueue.events.reader_thread import ReaderThread
from pgqueue.events.stored import as_args
from pgqueue.events.subscription import Subscription

logger = logging.getLogger("pgqueue.relay")

BUS_RETRY_S = 0.2  # the first wait; each is twice as long
BUS_RETRY_MAX_S = 15.0
RELAY_TASK = "pgqueue.relay"  # of the dead jobs that keep what a bus refuses: no worker runs it


class Relaying:
    """For one thread; `stop` is for any. declares: the subscription is made, or brought up to date, first."""

    def __init__(self, app: App, relay: Subscription, *, lane: int, declares: bool = False) -> None:
        self._relay = relay
        self._lane = lane
        self._declares = declares
        self.declared = threading.Event()
        """What is published from now on is sent; or it has ended."""
        self._refused: tuple[str, int] = ("", 0)  # the event that the bus refuses, and how often
        self._bus: Bus = connect(relay.url or "", relay=relay.name, lanes=relay.lanes)
        line = ReaderLine(app.dsn, app.queries, schema=app.config.schema, name=f"pgqueue relay {relay.name}")
        self._reader = ReaderThread(Reader(line, app.queries, relay, lane=lane))

    def run(self) -> None:
        """Send until it is stopped. Raises what no waiting cures."""
        most = self._relay.batch or RELAY_BATCH
        try:
            if self._declares:
                self._reader.declare().result()
            self.declared.set()
            while True:
                page = self._reader.next(most).result()
                if len(page.events) == most:  # there may be more: the database answers while the bus does
                    self._reader.read_ahead(most)
                self._deliver(page)
        except Stopped:
            return
        finally:
            self.declared.set()
            self._reader.close()
            self._bus.close()

    def stop(self) -> None:
        """Let it end after what it is sending."""
        self._reader.stop()

    def _deliver(self, page: EventPage) -> None:
        events = [
            RelayedEvent(
                page.number + nth,
                page.lane,
                row.era,
                row.id,
                row.type,
                row.key or None,
                row.payload,
                row.headers or None,
                row.at,
            )
            for nth, (_, row) in enumerate(page.events)
        ]
        try:
            self._bus.send(events)
        except BusUnavailable as error:
            self._try_later(page, str(error))
        except BusRefused as error:
            self._heed(page, events, error)
        else:
            self._reader.done(page).result()

    def _try_later(self, page: EventPage, error: str) -> None:
        retry_s = random.uniform(0.5, 1.0) * min(BUS_RETRY_MAX_S, BUS_RETRY_S * 2.0 ** min(page.failures, 20))
        logger.warning("relay %s: %s; trying again in %.1f s", self._relay.name, error, retry_s)
        self._reader.failed(page, error, retry_s=retry_s).result()

    def _heed(self, page: EventPage, events: Sequence[RelayedEvent], error: BusRefused) -> None:
        """Of one event that the bus refuses: those before it go first, so that it comes to be the first one."""
        nth = next((nth for nth, event in enumerate(events) if event.id == error.event.id), 0)
        if nth:
            self._deliver(page.first(nth))
            return
        refused, count = self._refused
        count = count + 1 if refused == events[0].id else 1
        self._refused = (events[0].id, count)
        told = f"event {events[0].id} ({events[0].type}): {error}"
        if count < (self._relay.max_attempts or RELAY_ATTEMPTS):
            self._try_later(page._replace(failures=count - 1), told)
        elif self._relay.on_poison == "stop":
            logger.error("relay %s stops: %s", self._relay.name, told)
            self._reader.failed(page, f"stopped: {told}", retry_s=None).result()
        else:
            self._put_aside(page, told, count)

    def _put_aside(self, page: EventPage, told: str, count: int) -> None:
        row = page.events[0].row
        job = {
            "queue": self._relay.queue, "task": RELAY_TASK, "args": as_args(row), "attempt": count,
            "error": f"relay {self._relay.name}: {told}",
        }  # fmt: skip
        if (job_id := self._reader.put_aside(page, job).result()) is not None:
            logger.error("relay %s puts an event aside as dead job %s: %s", self._relay.name, job_id, told)
