"""What a listener gets."""

from dataclasses import dataclass

from pgqueue.codec.calls import decode_plain
from pgqueue.errors import InvalidArguments


@dataclass(frozen=True, slots=True)
class Listening:
    """The first item: from now on everything is heard. Read your state now, and not before."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification: the channel by the name that the listener gave, and the text as it was sent."""

    channel: str
    payload: str

    @property
    def json(self) -> object:
        """The payload's value. Raises InvalidArguments for a text that another program sent and that is not JSON."""
        try:
            return decode_plain(self.payload)
        except ValueError as error:
            raise InvalidArguments(
                f"the payload of channel {self.channel!r} is not JSON ({error}): read .payload, which is the text as it was sent"
            ) from None


@dataclass(frozen=True, slots=True)
class Gap:
    """Notifications may be missing here: read your state again. `why` is for people.

    channel: the one that has the gap; None: each of this listener's.
    """

    channel: str | None
    why: str


Item = Listening | Notification | Gap
