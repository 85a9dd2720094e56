"""Every error pgqueue raises. Each message is one line: what is wrong, and what to do about it.

PgQueueError
├── ConfigError          an option, an app, a task or a setting is wrong: nothing was written
│   ├── InvalidOption        also a ValueError
│   └── NotSupported         what the connection leads through cannot do this
├── InvalidArguments     arguments that cannot be stored, or not be read back as declared; also a ValueError
│   └── SignatureChanged     a stored call does not fit the task as this worker's code has it
├── InvalidResult        a task returned what cannot be stored; the attempt fails with it
├── DuplicateJob         unique=..., on_duplicate="raise", and such a job is alive
├── DatabaseUnavailable  the server does not answer or refuses us (the password is never shown)
│   ├── EmbeddedError        the embedded server cannot be found, started or joined
│   └── OutcomeUnknown       it got a defer, or may have, and did not answer: the job may be there; carries its id
├── NotAllowed           the database role may not do this; the message names those that may
├── SchemaError          the tables do not fit this version of the code
│   ├── SchemaMissing
│   ├── SchemaTooOld
│   └── SchemaTooNew
├── JobError             about one job
│   ├── JobNotFound
│   ├── JobDead              it was given up; carries the last error
│   ├── JobCancelled
│   └── ResultTimeout        also a TimeoutError
├── BusUnavailable       the bus of a relay is down, silent or refuses for now: the same events are sent again
├── BusRefused           the bus of a relay can never take this event
├── WebhookFailed        an endpoint could not be reached or failed: the delivery is tried again
├── WebhookRefused       an endpoint refused the delivery, or must not be sent to: it is dead
├── LeaseLost            this attempt was replaced by another: its writes are discarded
└── TimeLimitExceeded    raised inside a task at a safe point after its timeout
"""

from collections.abc import Callable
from typing import Any

Repeat = Callable[[], Any]


class PgQueueError(Exception):
    """The root: `except PgQueueError` catches everything raised by pgqueue itself."""


class ConfigError(PgQueueError):
    """An option, an app, a task or a setting is wrong; the message names it and the cure."""


class InvalidOption(ConfigError, ValueError):
    """An option has a value it cannot take. Raised before anything is written."""


class NotSupported(ConfigError):
    """What sits in front of the database, such as a connection pooler, cannot do this; the message names the setting that helps."""


class InvalidArguments(PgQueueError, ValueError):
    """An argument of a job cannot be stored, is not of the declared type or would not come back as it is.

    The message gives task, path and types, never a value.
    """


class SignatureChanged(InvalidArguments):
    """A stored call does not fit the task as this worker's code has it: it was made by older or newer code."""


class InvalidResult(PgQueueError, ValueError):
    """What a task returned cannot be stored; the attempt fails with this error."""


class DuplicateJob(PgQueueError):
    """A live job has the same unique key and `on_duplicate="raise"` was asked for. `job_id` is that job's."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class DatabaseUnavailable(PgQueueError):
    """The database cannot be reached, refuses the connection or does not answer. The message never contains a password.

    From a defer: no job was made. Where one may be there it is an OutcomeUnknown.
    """


class OutcomeUnknown(DatabaseUnavailable):
    """A defer was sent and no answer came: the job may be there, or appear when a frozen server wakes up.

    `job_id` is its id; of `count` jobs of a defer_many it is the first one's, and all are there or none. Ask
    `app.job(job_id)` later; or call `again()`, which creates this very job unless it exists, and never a second one.
    """

    def __init__(
        self, message: str, job_id: str, count: int = 1, repeats: "tuple[Repeat, Repeat] | None" = None
    ) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.count = count
        self._repeats = repeats

    def again(self) -> Any:
        """Try once more to make this job, for as long as a defer does; its Job. Raises what defer raises.

        Raises itself for a defer_many, whose calls are used up, and for what was lost on a connection of the caller's.
        """
        return self._repeat(0)

    async def again_async(self) -> Any:
        """As `again`, for asyncio."""
        return await self._repeat(1)

    def _repeat(self, color: int) -> Any:
        if self._repeats is None:
            raise self
        return self._repeats[color]()


class EmbeddedError(DatabaseUnavailable):
    """The embedded server cannot be found, started or joined; the message gives the line that cures it."""


class NotAllowed(PgQueueError):
    """The role that the connection uses may not do this: connect as another, or grant it one that may."""


class SchemaError(PgQueueError):
    """The tables in the database do not fit this version of pgqueue."""


class SchemaMissing(SchemaError):
    """There are no pgqueue tables in this schema: run `pgqueue migrate`."""


class SchemaTooOld(SchemaError):
    """The tables are older than the code: run `pgqueue migrate`."""


class SchemaTooNew(SchemaError):
    """The tables are newer than the code: upgrade pgqueue here. Migrations never go back."""


class JobError(PgQueueError):
    """Something about one job; `job_id` says which."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobNotFound(JobError):
    """No job has this id: it never existed, its transaction rolled back, or its retention is over."""


class JobDead(JobError):
    """The job was given up. `error` is the last attempt's error as text."""

    def __init__(self, message: str, job_id: str, error: str | None) -> None:
        super().__init__(message, job_id)
        self.error = error


class JobCancelled(JobError):
    """The job was cancelled; the message gives the reason."""


class ResultTimeout(JobError, TimeoutError):
    """The job did not end within the time the caller was willing to wait. The job itself continues."""


class BusUnavailable(PgQueueError):
    """The bus of a relay is down, does not answer in time or refuses for now. The message never contains a password.

    Some of the events may be there: all of them are sent again.
    """


class BusRefused(PgQueueError):
    """The bus of a relay can never take this event, as it is too large or what it goes to is not there. `event` is that one."""

    def __init__(self, message: str, event: Any) -> None:
        super().__init__(message)
        self.event = event


class WebhookFailed(PgQueueError):
    """A delivery did not arrive, and may do so later: no answer, an error of the server or of the network."""


class WebhookRefused(PgQueueError):
    """A delivery can never arrive: the endpoint refuses it, redirects it, or has an address that is not allowed."""


class LeaseLost(PgQueueError):
    """This attempt was replaced (its worker was presumed dead, or another took the job): its writes are discarded."""


class TimeLimitExceeded(PgQueueError):
    """The task's timeout is over. Raised at an `await` of an async task, at `current_job().check()` of a sync one."""
