"""Statements of live channels."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pgqueue.queries.statement import Row, Statement, Texts


class Sent(NamedTuple):
    """How many notifications were sent, and how full the server's queue of them is."""

    sent: int
    share: float


class Notice(NamedTuple):
    """A payload that is too large for NOTIFY."""

    id: str
    payload: str


class ChannelQueries(Texts):
    """The statements of who notifies and who listens: the files of sql/channels. Names of channels are native ones."""

    def notify(self, channel: str, payload: str) -> Statement[Sent]:
        return self._say("channels/notify", Sent, channel=channel, payload=payload)

    def notify_large(self, channel: str, payload: str, *, id_: str, text: str) -> Statement[Sent]:
        """payload: what is sent, which names the id; text: what is kept under it."""
        return self._say("channels/notify_large", Sent, channel=channel, payload=payload, id=id_, text=text)

    def notices(self, ids: Sequence[str]) -> Statement[Notice]:
        return self._say("channels/notices", Notice, ids=ids)

    def forget_notices(self, *, keep_s: float, at_most: int) -> Statement[Row]:
        return self._say("channels/forget_notices", keep_s=keep_s, at_most=at_most)

    def database(self) -> Statement[str]:
        return self._values("channels/database")

    def server(self) -> Statement[str]:
        return self._values("channels/server")

    def keepalive(self) -> Statement[Row]:
        return self._say("channels/keepalive")

    def listen_to(self, channels: Iterable[str]) -> list[Statement[Row]]:
        """One command for each."""
        return [Statement(f"listen {_quoted(channel)}") for channel in channels]

    def unlisten_from(self, channels: Iterable[str]) -> list[Statement[Row]]:
        return [Statement(f"unlisten {_quoted(channel)}") for channel in channels]


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
