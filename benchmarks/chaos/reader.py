"""`python -m benchmarks.chaos.reader`: the program that hears and reads, in a process that may be killed.

One thread loops over events, the main one listens to a channel. What came is written down before more is asked for.
"""

import os
import threading
import time
from pathlib import Path

from benchmarks.chaos.ledger import Ledger
from benchmarks.chaos.publishers import CHANNEL, TYPES
from pgqueue import App, Gap, Listening, Notification
from pgqueue.errors import DatabaseUnavailable

PULL = "chaos pull"


def main() -> None:
    """Until it is killed."""
    app = App()
    ledger = Ledger(Path(os.environ["PGQUEUE_CHAOS_LEDGER"]), "reader")
    threading.Thread(target=_forever, args=[_pull, app, ledger], daemon=True).start()
    _forever(_listen, app, ledger)


def _forever(work, app: App, ledger: Ledger) -> None:  # type: ignore[no-untyped-def]
    while True:
        try:
            work(app, ledger)
        except DatabaseUnavailable:  # when it begins; later it waits itself
            time.sleep(0.1)


def _pull(app: App, ledger: Ledger) -> None:
    for events in app.subscribe(TYPES, name=PULL, batch=20, start="begin"):
        for event in events:
            ledger.write("pulled", event=event.id)


def _listen(app: App, ledger: Ledger) -> None:
    for item in app.listen(CHANNEL):
        match item:
            case Notification():
                ledger.write("heard", turn=item.json)
            case Listening():
                ledger.write("listening")
            case Gap():
                ledger.write("gap", why=item.why)


if __name__ == "__main__":
    main()
