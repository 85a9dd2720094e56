"""Place orders while the relay and Redis are killed again and again; then compare the stream with the table.

    python -m examples.outbox.demo [--orders N] [--kills N]

Exit code 0: each committed order is in the stream exactly once and in the order of its customer, and no other is.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from examples.outbox.servers import DemoError, Redis, Worker
from examples.outbox.shop import STREAM, Base, Customer, Order, app, engine, place_order
from pgqueue import PgQueueError

CUSTOMERS = 7
WRITERS = 4
CANCELLED = 0.1  # of the orders: their transaction is rolled back
PATIENCE_S = 120.0  # a killed relay's lease runs out within 15 s, and Redis is tried again within 15 s
LOOK_S = 0.2


class Sold(NamedTuple):
    """An order as the table or the stream has it."""

    customer: int
    number: int
    id: int


class Refused(Exception):
    """The customer has changed their mind, in the middle of the transaction."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.outbox.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--orders", type=int, default=2000, metavar="N", help="orders that are tried (2000)")
    parser.add_argument("--kills", type=int, default=3, metavar="N", help="so often the relay and Redis are killed (3)")
    options = parser.parse_args(argv)
    try:
        problems = demo(options.orders, options.kills)
    except (DemoError, PgQueueError) as error:
        problems = [str(error)]
    finally:
        engine().dispose()
        app.close()
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


def demo(orders: int, kills: int) -> list[str]:
    """The whole story; returns what is wrong, nothing if all is well."""
    app.migrate()
    prepare()
    with tempfile.TemporaryDirectory(prefix="outbox-") as folder, broken_things(Path(folder)) as (bus, worker):
        await_subscription(worker)
        with ThreadPoolExecutor(WRITERS + 1) as pool:
            breaking = pool.submit(break_things, bus, worker, kills)
            writing = [pool.submit(write, nth, orders // WRITERS) for nth in range(WRITERS)]
            cancelled = sum(each.result() for each in writing)
            breaking.result()
        with Session(engine()) as session:
            committed = [Sold(*row) for row in session.execute(select(Order.customer_id, Order.number, Order.id))]
        print(
            f"{len(committed)} orders were committed, {cancelled} rolled back; each of the two was killed {kills} times"
        )
        sent = await_stream(bus, worker, len(committed))
        if code := worker.stop():
            return [f"the worker ended with exit code {code}"]
    if not (problems := differences(committed, sent)):
        print(f"the stream has {len(sent)}: each exactly once, in the order of its customer, and no other")
    return problems


def prepare() -> None:
    """Our tables, without the orders of an earlier run; and its subscription goes, as its stream has gone."""
    Base.metadata.create_all(engine())
    with Session(engine()) as session, session.begin():
        session.execute(text("truncate outbox_order, outbox_customer"))
        session.add_all(Customer(id=number, orders=0) for number in range(CUSTOMERS))
    if any(state.name == "orders" for state in app.subscription_states()):
        app.subscription("orders").drop()


@contextmanager
def broken_things(folder: Path) -> Iterator[tuple[Redis, Worker]]:
    """Redis and a worker, which end with the block."""
    bus = Redis(folder)
    with (folder / "worker.log").open("wb") as log:
        try:
            bus.start()
            worker = Worker(log, bus=f"{bus.url}/{STREAM}")
            try:
                yield bus, worker
            finally:
                worker.stop()
        finally:
            bus.kill()


def await_subscription(worker: Worker) -> None:
    """What is published from then on is relayed."""
    deadline = time.monotonic() + PATIENCE_S
    while not any(state.name == "orders" for state in app.subscription_states()):
        worker.check()
        if time.monotonic() > deadline:
            raise DemoError("the worker has made no subscription")
        time.sleep(LOOK_S)


def write(writer: int, orders: int) -> int:
    """Place orders as a web process does; how many were rolled back."""
    choose = random.Random(writer)
    cancelled = 0
    for nth in range(orders):
        try:
            with Session(engine()) as session, session.begin():
                place_order(session, choose.randrange(CUSTOMERS), f"item {writer}-{nth}")
                if choose.random() < CANCELLED:
                    raise Refused
        except Refused:
            cancelled += 1
    return cancelled


def break_things(bus: Redis, worker: Worker, kills: int) -> None:
    """Kill the relay and Redis, each in the middle of its work."""
    pause = threading.Event()
    for _ in range(kills):
        pause.wait(random.uniform(0.1, 0.5))
        bus.kill()
        pause.wait(random.uniform(0.1, 0.5))
        bus.start()
        pause.wait(random.uniform(0.1, 0.5))
        worker.kill_relay()


def await_stream(bus: Redis, worker: Worker, orders: int) -> list[Sold]:
    """What the stream has, once it has that many entries."""
    with redis.Redis.from_url(bus.url, decode_responses=True) as client:
        deadline = time.monotonic() + PATIENCE_S
        while client.xlen(STREAM) < orders and time.monotonic() < deadline:
            worker.check()
            time.sleep(LOOK_S)
        entries: Any = client.xrange(STREAM)
    payloads = [json.loads(entry["payload"]) for _, entry in entries]
    return [Sold(each["customer"], each["number"], each["id"]) for each in payloads]


def differences(committed: Iterable[Sold], sent: Sequence[Sold]) -> list[str]:
    """What the stream has too little, too much, or in the wrong order."""
    wanted, there = Counter(committed), Counter(sent)
    problems = [f"order {order.id} is not in the stream" for order in wanted - there]
    problems += [f"order {order.id} is in the stream, and was rolled back" for order in there if order not in wanted]
    problems += [f"order {order.id} is in the stream {times} times" for order, times in there.items() if times > 1]
    last: dict[int, int] = {}
    for order in sent:
        if order.number < last.get(order.customer, 0):
            problems.append(f"order {order.number} of customer {order.customer} came after {last[order.customer]}")
        last[order.customer] = order.number
    return problems


if __name__ == "__main__":
    sys.exit(main())
