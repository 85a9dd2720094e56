"""Who a worker is to the database; replaced once it was declared dead."""

import time
import uuid

from pgqueue.worker.settings import STOP_CLAIMING_S


class Identity:
    """One worker's id and what follows from it. The lease writes it, all others read it, again before each statement."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.confirmed_at: float | None = None
        """When the last confirmed heartbeat was sent (monotonic); None before this id is registered."""

    @property
    def session_name(self) -> str:
        """The application_name of every session of this worker: by it a dead worker's sessions are ended."""
        return session_name(self.worker)

    @property
    def lock_key(self) -> int:
        """What the session lock is taken on."""
        return uuid.UUID(self.worker).int & 0x7FFFFFFF

    @property
    def confirmed(self) -> bool:
        """False once the heartbeat has been unconfirmed for so long that others may soon take over."""
        return self.confirmed_at is not None and time.monotonic() - self.confirmed_at < STOP_CLAIMING_S

    def for_children(self) -> dict[str, str]:
        """What children must know of the worker to which they belong."""
        return {"worker": self.worker, "application_name": self.session_name}

    def replace(self) -> None:
        """Take a new id, under which nothing is registered yet."""
        self.worker = str(uuid.uuid4())
        self.confirmed_at = None


def session_name(worker: str) -> str:
    """The application_name of a worker's sessions and those of its children."""
    return f"pgqueue:{worker}"
