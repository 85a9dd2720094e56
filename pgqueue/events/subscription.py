"""What a subscription is, and the steps that make one."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pgqueue.errors import InvalidOption
from pgqueue.events.start import StartAt, find_start
from pgqueue.queries import Queries, Steps, ask

MAX_BATCH = 10_000  # they are in memory at once
MAX_LANES = 256

Mode = Literal["job", "batch", "pull", "relay"]
OnPoison = Literal["skip", "stop"]


def check_on_poison(value: object) -> OnPoison:
    """What becomes of an event that always fails; raises InvalidOption."""
    if value not in ("skip", "stop"):
        raise InvalidOption(
            f"on_poison={value!r} is not understood: take 'skip' to put such an event aside, or 'stop' to stop its lane"
        )
    return value


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
    on_poison: OnPoison = "skip"
    """What becomes of an event that always fails: it is put aside and the lane continues, or the lane stops."""
    target: str | None = None
    """Where a relay sends them, as it may be shown."""
    url: str | None = field(default=None, repr=False)
    """The same with its password: it goes to the process of the relay, and never to the database."""
    headers: str | None = None
    """JSON text, of the jobs that are made."""
    in_code: bool = True
    """Declared in code; else made by a command."""

    def as_json(self) -> dict[str, Any]:
        """As it travels from a child; `Subscription(**_)` reads it."""
        return asdict(self)


def declare(queries: Queries, *subscriptions: Subscription, start: StartAt = "now", lent: bool = False) -> Steps[None]:
    """Make them or bring them up to date, in one transaction that the caller sees to. start: where a new one begins; lent: the
    transaction is not ours."""
    yield queries.begin_era()
    yield queries.lock_ticks(lent=lent)
    begin = yield from find_start(queries, start)
    for subscription in subscriptions:
        yield from ask(queries.declare(subscription.as_json() | begin._asdict() | {"url": None}))
