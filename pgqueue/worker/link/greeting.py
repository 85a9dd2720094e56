"""The first message each way: what a child is to be, and what it then says about its app."""

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSetup:
    """From the supervisor: ["setup", {...}]."""

    app: str
    threads: int
    weigh: bool
    """Whether it tells its memory."""
    log_level: str | None
    log_format: str
    worker: str
    """The worker's id, replaced when that was declared dead."""
    application_name: str
    """Of the sessions that the child opens for atomic tasks."""
    async_jobs: int | None = None
    """How many it is given at once; None: as many as the setting of the app says."""

    def as_json(self) -> dict[str, Any]:
        """As it travels; `ChildSetup(**_)` reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperSetup:
    """From the supervisor to its helper: ["setup", {...}]. Functions are named `module:function`."""

    on_worker_start: list[str]
    on_worker_stop: list[str]
    log_level: str | None
    log_format: str

    def as_json(self) -> dict[str, Any]:
        """As it travels; `HelperSetup(**_)` reads it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySetup:
    """From the supervisor to the process of a relay's lane: ["setup", {...}]."""

    dsn: str
    config: dict[str, Any]
    relay: dict[str, Any]
    """The subscription, with the URL of the bus."""
    lane: int
    log_level: str | None
    log_format: str

    def as_json(self) -> dict[str, Any]:
        """As it travels; `RelaySetup(**_)` reads it."""
        return asdict(self)


class TaskFacts(NamedTuple):
    """What a supervisor knows of a task."""

    is_async: bool
    timeout_s: float | None
    queue: str
    async_limit: int | None = None
    """How many of its jobs a child runs at once; None: no limit of its own."""
    keyed: bool = False
    """Whether a job has to pass gates that only its code can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFacts:
    """From the child: ["hello", {...}]. The supervisor never imports the app, and knows nothing else of it."""

    code: str
    """The fingerprint of its tasks."""
    dsn: str | None
    """None: the embedded server."""
    config: dict[str, Any]
    """The settings that a worker heeds, as arguments of App."""
    tasks: dict[str, TaskFacts]
    subscriptions: list[dict[str, Any]] = field(default_factory=list)
    """Those that its code declares, as rows."""
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    """The endpoints that its code declares, as rows."""
    gates: list[dict[str, Any]] = field(default_factory=list)
    """The rules of limits that its code declares, as rows."""
    schedules: list[dict[str, Any]] = field(default_factory=list)
    """The schedules that its code declares, as rows."""

    def as_json(self) -> dict[str, Any]:
        """As it travels."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Self:
        return cls(**facts | {"tasks": {name: TaskFacts(*task) for name, task in facts["tasks"].items()}})
