"""Ways to listen in a test: from a thread, with a list of what came."""

import threading
from types import TracebackType
from typing import Any, Self

from pgqueue import App, Gap, Listening, Notification
from tests.conftest import eventually


class Loop:
    """A thread that loops over a listener, for as long as the block lasts."""

    def __init__(self, app: App, *channels: str, timeout: float | None = None) -> None:
        self.items: list[Any] = []
        self.error: BaseException | None = None
        self.listener = app.listen(*channels, timeout=timeout)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            for item in self.listener:
                self.items.append(item)
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Self:
        self.thread.start()
        eventually(lambda: self.error or self.items, what="it listens")
        assert self.items[:1] == [Listening()], self.error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.close()
        self.thread.join()

    @property
    def payloads(self) -> list[Any]:
        return [item.json for item in self.items if isinstance(item, Notification)]

    @property
    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    def heard(self, count: int) -> list[Any]:
        """Wait for this many notifications; their values."""
        eventually(lambda: self.error or len(self.payloads) >= count, what=f"{count} are heard")
        assert self.error is None, self.error
        return self.payloads
