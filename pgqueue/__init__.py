"""pgqueue: a job queue on PostgreSQL. This is the front door; everything public is imported from here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pgqueue.app import App
from pgqueue.client.handle import Job, Jobs
from pgqueue.config import Config
from pgqueue.context import CurrentJob, current_job
from pgqueue.db import CallerConnection
from pgqueue.errors import (
    ConfigError,
    DatabaseUnavailable,
    DuplicateJob,
    EmbeddedError,
    InvalidArguments,
    InvalidOption,
    InvalidResult,
    JobCancelled,
    JobDead,
    JobError,
    JobNotFound,
    LeaseLost,
    NotAllowed,
    NotSupported,
    OutcomeUnknown,
    PgQueueError,
    ResultTimeout,
    SchemaError,
    SchemaMissing,
    SchemaTooNew,
    SchemaTooOld,
    SignatureChanged,
    TimeLimitExceeded,
)
from pgqueue.gates.breaker import Breaker
from pgqueue.gates.limit import Fair, Limit, Rate
from pgqueue.job import Outcome, Snapshot, State, Verdict
from pgqueue.middleware import Middleware
from pgqueue.ops.listing import Page
from pgqueue.retry import Cancel, Retry, Skip, Snooze
from pgqueue.task import Task

if TYPE_CHECKING:
    from pgqueue.channels.items import Gap, Listening, Notification
    from pgqueue.events.event import Event

ON_DEMAND = {
    "Event": "pgqueue.events.event",
    "Gap": "pgqueue.channels.items",
    "Listening": "pgqueue.channels.items",
    "Notification": "pgqueue.channels.items",
}

__version__ = "0.1.0"

app = App()
"""The default App; `task` belongs to it."""
task = app.task

__all__ = [
    "App",
    "Breaker",
    "CallerConnection",
    "Cancel",
    "Config",
    "ConfigError",
    "CurrentJob",
    "DatabaseUnavailable",
    "DuplicateJob",
    "EmbeddedError",
    "Event",
    "Fair",
    "Gap",
    "InvalidArguments",
    "InvalidOption",
    "InvalidResult",
    "Job",
    "JobCancelled",
    "JobDead",
    "JobError",
    "JobNotFound",
    "Jobs",
    "LeaseLost",
    "Limit",
    "Listening",
    "Middleware",
    "NotAllowed",
    "NotSupported",
    "Notification",
    "Outcome",
    "OutcomeUnknown",
    "Page",
    "PgQueueError",
    "Rate",
    "ResultTimeout",
    "Retry",
    "SchemaError",
    "SchemaMissing",
    "SchemaTooNew",
    "SchemaTooOld",
    "SignatureChanged",
    "Skip",
    "Snapshot",
    "Snooze",
    "State",
    "Task",
    "TimeLimitExceeded",
    "Verdict",
    "app",
    "current_job",
    "task",
]


def __getattr__(name: str) -> Any:
    """What events and channels give out is imported when it is asked for: most programs enqueue, and do without."""
    if name in ON_DEMAND:
        return getattr(import_module(ON_DEMAND[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
