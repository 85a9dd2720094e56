"""pgqueue relay: events to a bus, without a worker."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from pgqueue.cli.options import RUN, AppName, chosen_app
from pgqueue.cli.output import say
from pgqueue.events import RELAY_ATTEMPTS, RELAY_BATCH
from pgqueue.events.relay import relayed
from pgqueue.terminal import log_to_stderr


def relay(
    to: Annotated[str, typer.Option("--to", help="URL of the bus, or env:NAME of a variable that holds it.")],
    types: Annotated[str, typer.Option("--types", help="Comma-separated: user.created, user.* or *.")] = "*",
    name: Annotated[str | None, typer.Option("--name", help="Of the subscription. Default: by the URL.")] = None,
    lanes: Annotated[int, typer.Option("--lanes", min=1, max=256, help="Lanes, each in order, that send at once.")] = 1,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=10_000, help="Events that are sent in one.")
    ] = RELAY_BATCH,
    max_attempts: Annotated[
        int, typer.Option("--max-attempts", min=1, max=1000, help="Tries of an event that the bus refuses.")
    ] = RELAY_ATTEMPTS,
    on_poison: Annotated[
        str, typer.Option("--on-poison", help="After them: skip (a dead job keeps it), or stop.")
    ] = "skip",
    app: AppName = None,
) -> None:
    """Send events to Redis, NATS, RabbitMQ or Kafka until TERM or Ctrl-C. `app.relay` has a worker do it."""
    from pgqueue.worker.relay.relaying import Relaying  # other commands need no worker

    wanted = relayed(
        to, types.split(","), name=name, lanes=lanes, batch=batch, max_attempts=max_attempts, on_poison=on_poison,
        in_code=False,
    )  # fmt: skip
    log_to_stderr(level="info", form="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    chosen = chosen_app(app)
    failed = threading.Event()
    told: list[int] = []  # no lock in a handler: it may run while this very thread holds it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    relaying = [Relaying(chosen, wanted, lane=lane, declares=True) for lane in range(lanes)]
    with ThreadPoolExecutor(lanes) as threads:
        running = [threads.submit(each.run) for each in relaying]
        for each in running:
            each.add_done_callback(lambda _: failed.set())  # one that fails ends them all
        for one in relaying:
            while not (one.declared.wait(0.1) or failed.is_set() or told):
                pass
        if not (failed.is_set() or told):
            say(f"relay {wanted.name} is ready")
        while not (told or failed.wait(0.2)):  # see waiting.py
            pass
        for one in relaying:
            one.stop()
    for each in running:
        each.result()


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.command(rich_help_panel=RUN)(relay)
