"""Statements of webhooks: their endpoints."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pgqueue.queries.statement import Row, Statement, Texts


class FoundEndpoint(NamedTuple):
    """What a delivery needs to know. secrets: those that are valid now; why: it was disabled."""

    url: str
    secrets: list[str]
    allow_private: bool
    disabled: bool
    why: str | None


class ListedEndpoint(NamedTuple):
    """What everybody may know of one."""

    name: str
    site: str
    types: list[str]
    allow_private: bool
    created_at: datetime
    in_code: bool
    disabled_at: datetime | None
    why: str | None


class WebhookQueries(Texts):
    """The statements of the files of sql/webhooks."""

    def add_webhook(self, row: Mapping[str, Any]) -> Statement[str]:
        return self._values("webhooks/add", **row)

    def declare_webhook(self, row: Mapping[str, Any]) -> Statement[Row]:
        return self._say("webhooks/declare", **row)

    def find_webhook(self, name: str) -> Statement[FoundEndpoint]:
        return self._say("webhooks/find", FoundEndpoint, name=name)

    def webhooks(self) -> Statement[ListedEndpoint]:
        return self._say("webhooks/endpoints", ListedEndpoint)

    def rotate_webhook(self, name: str, *, secret: str, keep_s: float) -> Statement[str]:
        return self._values("webhooks/rotate", name=name, secret=secret, keep_s=keep_s)

    def disable_webhook(self, name: str, *, subscription: str, why: str) -> Statement[str]:
        """Its name, unless it is disabled or there is none."""
        return self._values("webhooks/disable", name=name, subscription=subscription, why=why)

    def enable_webhook(self, name: str, *, subscription: str) -> Statement[str]:
        return self._values("webhooks/enable", name=name, subscription=subscription)

    def drop_webhook(self, name: str, *, subscription: str) -> Statement[str]:
        return self._values("webhooks/drop", name=name, subscription=subscription)
