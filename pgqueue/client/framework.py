"""What an App asks the framework that its program runs in."""

from collections.abc import Mapping
from typing import Any, Protocol


class Framework(Protocol):
    """It is asked again and again, for a framework's answer may change: Django's test runner names another database."""

    def settings(self) -> Mapping[str, Any]:
        """Arguments of App, `dsn` among them; the same object for as long as none has changed. Raises ConfigError."""

    def transaction(self) -> Any:
        """The sync connection on which the caller of `defer` has a transaction open, as conn= takes it; None: there is none."""

    def check(self) -> None:
        """Raises where no connection of ours may be used, as in a test that has no database."""
