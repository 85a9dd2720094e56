"""The client side of a peer's program: `bulk N`, `single N`, `spaced N`, `paced RATE SECONDS`. Standard library only.

Each command prints one line of JSON. Everything is awaited, so that peers with an asynchronous client need no second
version; for the others that costs a tenth of a microsecond a call.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

SPACING_S = (0.02, 0.05)  # uneven, so that nothing the worker does at fixed times falls together with the samples
CHUNK_S = 0.1  # a paced load goes in so often
WARM_UP = 20  # calls that connect, prepare statements and fill caches before the clock runs


@dataclass(frozen=True, kw_only=True)
class Client:
    """How a peer enqueues: one no-op and waits until that is accepted, many in its best way, one numbered stamp."""

    one: Callable[[], Awaitable[object]]
    many: Callable[[int], Awaitable[object]]
    stamp: Callable[[int], Awaitable[object]]


async def serve(client: Client, arguments: list[str]) -> None:
    """Do what the command line says and print what came of it."""
    match arguments:
        case ["bulk", count]:
            answer = await _bulk(client, int(count))
        case ["single", count]:
            answer = await _single(client, int(count))
        case ["spaced", count]:
            answer = await _spaced(client, int(count))
        case ["paced", rate, seconds]:
            answer = await _paced(client, float(rate), float(seconds))
        case _:
            raise SystemExit(f"unknown command: {' '.join(arguments)}")
    print(json.dumps(answer), flush=True)


async def _bulk(client: Client, count: int) -> dict[str, float]:
    first = min(WARM_UP, count // 2)
    await client.many(first)
    began = time.perf_counter()
    await client.many(count - first)
    return {"enqueued": count, "rate": (count - first) / (time.perf_counter() - began)}


async def _single(client: Client, count: int) -> dict[str, float]:
    for _ in range(WARM_UP):
        await client.one()
    began = time.perf_counter()
    for _ in range(count):
        await client.one()
    return {"enqueued": WARM_UP + count, "rate": count / (time.perf_counter() - began)}


async def _spaced(client: Client, count: int) -> dict[str, list[int]]:
    """When each call began; the task writes the other end. Those with a negative number are the warm-up."""
    called_ns = []
    for number in range(-WARM_UP, count):
        time.sleep(random.uniform(*SPACING_S))  # noqa: ASYNC251 - nothing else is on this loop
        called_ns.append(time.monotonic_ns())
        await client.stamp(number)
    return {"called_ns": called_ns[WARM_UP:]}


async def _paced(client: Client, rate: float, seconds: float) -> dict[str, int]:
    """A steady load: what is due goes in every CHUNK_S; a client that cannot keep up falls behind and says so."""
    enqueued, began = 0, time.monotonic()
    while (past := time.monotonic() - began) < seconds:
        due = int(rate * past) - enqueued
        if due > 0:
            await client.many(due)
            enqueued += due
        time.sleep(max(0.0, CHUNK_S - (time.monotonic() - began - past)))  # noqa: ASYNC251
    return {"enqueued": enqueued}


def main(client: Client) -> None:
    """For a peer whose client needs no event loop of its own kind."""
    asyncio.run(serve(client, sys.argv[1:]))
