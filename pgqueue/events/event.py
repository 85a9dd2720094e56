"""An event, as its readers get it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Event(Generic[P]):
    """Something that happened: published once, and read by every subscription that wants its type.

    `Event[User]` reads the payload as a User, as an argument of a task would be.
    """

    id: str
    """A UUID of version 7: of two events with one id one is a repeat, as of a relay that did not hear that the first arrived."""
    type: str
    payload: P
    at: datetime
    """When it was published, by the database's clock."""
    key: str | None = None
    """Events of one key come in the order in which they were committed, where their publishers took turns."""
    headers: dict[str, Any] | None = None
