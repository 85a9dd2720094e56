"""An endpoint: what it is, the subscription that makes its deliveries, and the steps that change one."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from pgqueue.client.options import check_name
from pgqueue.errors import ConfigError
from pgqueue.events.subscription import Subscription
from pgqueue.events.subscription import declare as declare_subscriptions
from pgqueue.events.types import check_patterns
from pgqueue.queries import Queries, Steps, ask
from pgqueue.webhooks.signature import check_secret
from pgqueue.webhooks.website import Website

WEBHOOK_TASK = "pgqueue.webhook"
QUEUE = "webhooks"
NAMED_BY = "webhook"
"""The header of a delivery's job that names its endpoint."""
OLD_SECRET_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Who gets which events; as a row of the table `webhook`."""

    name: str
    url: str
    types: list[str]
    secrets: list[str]
    """The newest first; each delivery is signed by all."""
    allow_private: bool = False

    @classmethod
    def make(
        cls,
        url: object,
        types: str | Iterable[str],
        *,
        secret: str | Iterable[str],
        name: str | None = None,
        allow_private: bool = False,
    ) -> Self:
        """Check all of it. Raises ConfigError, which shows no secret."""
        website = Website.read(url, allow_private=allow_private)
        secrets = [secret] if isinstance(secret, str) or not isinstance(secret, Iterable) else list(secret)
        if not secrets:
            raise ConfigError(
                "a webhook takes a secret, as env:NAME: without one its receiver cannot tell it from a forgery"
            )
        return cls(
            name=check_name("name", website.host if name is None else name),
            url=str(url),
            types=check_patterns(types),
            secrets=[check_secret("secret", each) for each in secrets],
            allow_private=bool(allow_private),
        )

    def as_json(self) -> dict[str, Any]:
        """As it travels from a child; `Endpoint(**_)` reads it."""
        return asdict(self)

    def __repr__(self) -> str:
        """Without its secrets, and without the part of the URL that may be one."""
        return f"<Endpoint {self.name} {Website.read(self.url, allow_private=True).site}>"


def subscription_name(name: str) -> str:
    """Of the subscription that makes the deliveries of this endpoint."""
    return f"webhook:{name}"


def subscription_of(endpoint: Endpoint, *, in_code: bool) -> Subscription:
    """A job for each event: one endpoint that is down holds up no other."""
    return Subscription(
        name=subscription_name(endpoint.name),
        mode="job",
        types=endpoint.types,
        task=WEBHOOK_TASK,
        queue=QUEUE,
        headers=json.dumps({NAMED_BY: endpoint.name}),
        in_code=in_code,
    )


# -- steps; each in a transaction that the caller sees to --


def declare(queries: Queries, *endpoints: Endpoint) -> Steps[None]:
    """Make those of the code or bring them up to date; their subscriptions are declared as all of the code are."""
    for endpoint in endpoints:
        yield queries.declare_webhook(endpoint.as_json())


def add(queries: Queries, endpoint: Endpoint) -> Steps[None]:
    """Make one, which gets what is published from now on. Raises ConfigError if there is one of this name."""
    if not (yield from ask(queries.add_webhook(endpoint.as_json()))):
        raise ConfigError(
            f"there is a webhook '{endpoint.name}' already: give this one another --name, or drop that one"
        )
    yield from declare_subscriptions(queries, subscription_of(endpoint, in_code=False))


def rotate(queries: Queries, name: str, *, secret: str, keep_s: float = OLD_SECRET_S) -> Steps[None]:
    """Sign by a new secret, and by the last one too for a while. Raises ConfigError where the code says which."""
    if (yield from ask(queries.rotate_webhook(name, secret=secret, keep_s=keep_s))):
        return
    yield from _must_exist(queries, name)
    raise ConfigError(f"the webhook '{name}' is declared in code: write secret=['env:NEW', 'env:OLD'] there")


def disable(queries: Queries, name: str, *, why: str) -> Steps[bool]:
    """Send nothing more; False if it was disabled. Raises ConfigError if there is none."""
    return (
        yield from _change(queries, name, queries.disable_webhook(name, subscription=subscription_name(name), why=why))
    )


def enable(queries: Queries, name: str) -> Steps[bool]:
    """Send again, first what has waited; False if it was not disabled. Raises ConfigError if there is none."""
    return (yield from _change(queries, name, queries.enable_webhook(name, subscription=subscription_name(name))))


def drop(queries: Queries, name: str) -> Steps[None]:
    """Forget it. Raises ConfigError if there is none. One in code is made again by the next worker that starts."""
    if not (yield from ask(queries.drop_webhook(name, subscription=subscription_name(name)))):
        yield from _must_exist(queries, name)


def _change(queries: Queries, name: str, statement: Any) -> Steps[bool]:
    if (yield from ask(statement)):
        return True
    yield from _must_exist(queries, name)
    return False


def _must_exist(queries: Queries, name: str) -> Steps[None]:
    names = [endpoint.name for endpoint in (yield from ask(queries.webhooks()))]
    if name not in names:
        known = f"there are {', '.join(names)}" if names else "there are none: see `pgqueue webhook add --help`"
        raise ConfigError(f"there is no webhook '{name}': {known}")
