"""What a subscription is, and the steps that make one."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pgqueue.queries import Queries, Steps, ask

Mode = Literal["job", "batch", "pull", "relay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Who gets which events, and how; as a row of the table `subscription`."""

    name: str
    mode: Mode
    types: list[str]
    task: str | None = None
    queue: str = "default"
    priority: int = 0
    max_attempts: int | None = None
    """Null: as the task's policy says."""
    timeout_s: float | None = None
    lanes: int = 1
    batch: int | None = None
    """Events at most in one batch."""
    batch_wait_s: float | None = None
    """How long a batch that is not full waits for more."""
    on_poison: Literal["isolate", "stop"] = "isolate"
    target: str | None = None
    """Where a relay sends them."""
    headers: str | None = None
    """JSON text, of the jobs that are made."""
    in_code: bool = True
    """Declared in code; else made by a command."""

    def as_json(self) -> dict[str, Any]:
        """As it travels from a child; `Subscription(**_)` reads it."""
        return asdict(self)


def declare(queries: Queries, *subscriptions: Subscription) -> Steps[None]:
    """Make them or bring them up to date, in one transaction that the caller sees to. A new one gets events from now on."""
    yield queries.lock_ticks()
    for subscription in subscriptions:
        yield from ask(queries.declare(subscription.as_json()))
