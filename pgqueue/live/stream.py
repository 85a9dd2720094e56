"""The stream of one client, sync or async: frame after frame, and a sign of life when nothing comes for a while."""

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from pgqueue.app import App
from pgqueue.channels.listener import Listener
from pgqueue.errors import InvalidOption
from pgqueue.live.ending import SERVER_WATCH
from pgqueue.live.frames import Frame, frame_of, message, sent_event

W = TypeVar("W")

BEAT_S = 15.0  # proxies cut what is silent for 30 to 60 s
COME_BACK_S = 2.0
LONGEST_S = 3600.0


class Stream(Generic[W]):
    """What one client gets; `write` makes what is sent of a frame and the position after it."""

    def __init__(self, listener: Any, write: Callable[[Frame, str | None], W], *, beat_s: float) -> None:
        self._listener = listener
        self._write = write
        self._beat_s = beat_s
        SERVER_WATCH.watch(self)

    def _next(self, item: Any) -> W:
        return self._write(frame_of(item), getattr(self._listener, "position", None))

    def __iter__(self) -> Generator[W, None, None]:
        with self._listener as listener:
            while not listener.closed:
                yield self._next(listener.wait(self._beat_s))

    async def __aiter__(self) -> AsyncGenerator[W, None]:
        async with self._listener as listener:
            while not listener.closed:
                yield self._next(await listener.wait_async(self._beat_s))

    def close(self) -> None:
        """Let it end, from any thread."""
        self._listener.close()


@dataclass(frozen=True, slots=True)
class WantedStream:
    """What a view asks for: live channels, or types of events from the log. Raises InvalidOption for what cannot be."""

    app: App
    channels: Sequence[str] = ()
    types: Sequence[str] = ()
    beat_s: float = BEAT_S
    retry_s: float = COME_BACK_S

    def __post_init__(self) -> None:
        for option, value in ("channels", self.channels), ("types", self.types):
            if isinstance(value, str):
                raise InvalidOption(f"{option} takes several names, as in {option}=[{value!r}]")
        if bool(self.channels) == bool(self.types):
            raise InvalidOption(
                "a live stream follows channels=['orders'] (app.notify) or types=['order.*'] (app.publish): give one of the two"
            )
        for option, seconds in ("beat_s", self.beat_s), ("retry_s", self.retry_s):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_S:
                raise InvalidOption(f"{option} takes a number of seconds up to {LONGEST_S:.0f}, not {seconds!r}")
        self._listener(None)

    def _listener(self, last_id: str | None) -> Listener[Any]:
        return self.app.listen(*self.channels) if self.channels else self.app.follow(*self.types, after=last_id)

    def sent_events(self, last_id: str | None) -> Stream[bytes]:
        """As server-sent events. last_id: the Last-Event-ID of a client that comes back."""
        return Stream(self._listener(last_id), partial(sent_event, retry_s=self.retry_s), beat_s=self.beat_s)

    def messages(self, last_id: str | None) -> Stream[str]:
        """As JSON, for a WebSocket."""
        return Stream(self._listener(last_id), message, beat_s=self.beat_s)
