"""What `App.relay` and `pgqueue relay` ask for: a subscription whose events go to a bus."""

from collections.abc import Iterable
from typing import Any

from pgqueue.buses.bus import check
from pgqueue.buses.destination import Destination
from pgqueue.client.options import check_integer, check_name
from pgqueue.events.subscription import MAX_BATCH, MAX_LANES, Subscription, check_on_poison
from pgqueue.events.types import check_patterns


def relayed(
    to: str, types: str | Iterable[str], *, name: str | None, lanes: int, batch: int, max_attempts: int, on_poison: Any,
    in_code: bool,
) -> Subscription:  # fmt: skip
    """Raises ConfigError for a URL that is wrong, and InvalidOption. An `env:NAME` is looked up where the relay runs."""
    lanes = check_integer("lanes", lanes, low=1, high=MAX_LANES)
    target = to
    if not (isinstance(to, str) and to.startswith("env:")):
        check(to, lanes=lanes)
        target = Destination.read(to, lanes=lanes).shown
    return Subscription(
        name=check_name("name", name if name is not None else f"relay to {target}"), mode="relay",
        types=check_patterns([types] if isinstance(types, str) else types), lanes=lanes, target=target, url=to,
        batch=check_integer("batch", batch, low=1, high=MAX_BATCH), in_code=in_code, on_poison=check_on_poison(on_poison),
        max_attempts=check_integer("max_attempts", max_attempts, low=1, high=1000),
    )  # fmt: skip
