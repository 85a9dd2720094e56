"""Where a relay sends to, read from its URL: which bus, which server, and the name that each event goes to there.

    redis://host:6379/0/stream:{type}         database, stream          also rediss, valkey, valkeys
    nats://host:4222/events.{type}            subject                   also nats+tls; a user without a password is a token
    amqp://host:5672/vhost/exchange/{type}    vhost, exchange, routing key; without an exchange the last part is a queue; amqps
    kafka://host:9092,other:9092/{type}       topic

`{type}` and `{lane}` stand for those of the event. `env:NAME` in place of a URL names a variable that holds one, so that its
password is not in the code.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qsl, unquote

from pgqueue.config import environment
from pgqueue.errors import ConfigError

URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?",
    re.DOTALL,
)
IN_BRACES = re.compile(r"\{([^{}]*)\}")
PLACES = "type", "lane"


@dataclass(frozen=True, slots=True)
class Kind:
    """One bus: its module here, the extra that installs its client, the client's module, and what its URL looks like."""

    module: str
    extra: str
    client: str
    example: str
    port: int
    options: frozenset[str] | None = frozenset()
    """Of its query. None: the client knows them, we do not."""


REDIS = Kind("redis", "redis", "redis", "redis://host:6379/0/stream:{type}", 6379, frozenset({"maxlen", "ids"}))
NATS = Kind("nats", "nats", "nats", "nats://host:4222/events.{type}", 4222)
RABBITMQ = Kind("rabbitmq", "rabbitmq", "aio_pika", "amqp://host:5672/%2F/exchange/{type}", 5672)
KAFKA = Kind("kafka", "kafka", "confluent_kafka", "kafka://host:9092/{type}", 9092, None)
KINDS = {
    "redis": REDIS, "rediss": REDIS, "valkey": REDIS, "valkeys": REDIS,
    "nats": NATS, "nats+tls": NATS, "amqp": RABBITMQ, "amqps": RABBITMQ, "kafka": KAFKA,
}  # fmt: skip
WITH_TLS = {"rediss", "valkeys", "nats+tls", "amqps"}


@dataclass(frozen=True, slots=True)
class Destination:
    """A relay's URL in its parts. `parts` are those of the path, decoded; the last one may hold {type} and {lane}."""

    kind: Kind
    tls: bool
    user: str | None
    password: str | None = field(repr=False)
    hosts: tuple[tuple[str, int], ...]
    parts: tuple[str, ...]
    options: Mapping[str, str]
    shown: str
    """The URL without user and password: what messages say."""

    @classmethod
    def read(cls, url: str, *, lanes: int = 1) -> Self:
        """Raises ConfigError, which names the part that is wrong or missing; connects to nothing."""
        text, told = _given(url)
        found = URL.fullmatch(text)
        if found is None:
            raise ConfigError(f"{told} is not the URL of a bus: write it as {_examples()}")
        scheme = found["scheme"].lower()
        kind = KINDS.get(scheme)
        if kind is None:
            raise ConfigError(f"a relay cannot send to {scheme}:// ({told}): it can to {', '.join(sorted(KINDS))}")
        shown = f"{scheme}://{found['hosts']}{found['path'] or ''}"
        user, given, password = (found["user"] or "").partition(":")
        made = cls(
            kind=kind,
            tls=scheme in WITH_TLS,
            user=unquote(user) or None,
            password=unquote(password) if given else None,
            hosts=_hosts(found["hosts"], kind, shown),
            parts=_parts(found["path"] or "", kind, shown),
            options=_options(found["query"] or "", kind, shown),
            shown=shown,
        )
        if kind is REDIS:
            _check_stream(made, lanes)
        return made

    @property
    def exact(self) -> bool:
        """Of Redis: whether the entries have ids of ours, by which a repeat is recognised."""
        return self.options.get("ids") != "auto"

    @property
    def by_lane(self) -> bool:
        """Whether each lane has a name of its own there."""
        return "{lane}" in self.parts[-1]

    def name_for(self, type: str, lane: int) -> str:
        """What an event of this type and lane goes to."""
        values = {"type": type, "lane": str(lane)}
        return IN_BRACES.sub(lambda found: values[found[1]], self.parts[-1])


def _given(url: str) -> tuple[str, str]:
    """The URL itself, and how a message names it: never by what may hold a password."""
    if not isinstance(url, str) or not url.strip():
        raise ConfigError(f"a relay needs the URL of a bus, as {_examples()}")
    if not url.startswith("env:"):
        return url.strip(), f"'{_without_user(url.strip())}'"
    name = url.removeprefix("env:")
    if (value := environment(name)) is None:
        raise ConfigError(f"a relay takes its URL from the environment variable {name}, which is not set here")
    return value.strip(), f"the variable {name}"


def _without_user(url: str) -> str:
    """Also of what is not a URL: all up to the last @ may be a password."""
    start, given, rest = url.partition("?")[0].rpartition("@")
    scheme, is_url, _ = start.partition("://")
    return f"{scheme}://***@{rest}" if is_url else f"***@{rest}" if given else rest


def _examples() -> str:
    return ", ".join(kind.example for kind in (REDIS, NATS, RABBITMQ, KAFKA))


def _hosts(text: str, kind: Kind, shown: str) -> tuple[tuple[str, int], ...]:
    hosts = []
    for one in text.split(","):
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+)(?::(\d{1,5}))?", one)
        if found is None or not 0 < int(found[2] or kind.port) < 65_536:
            raise ConfigError(f"{shown} names no server: write it as {kind.example}")
        hosts.append((found[1].strip("[]"), int(found[2] or kind.port)))
    if len(hosts) > 1 and kind in (REDIS, RABBITMQ):
        raise ConfigError(
            f"{shown} names {len(hosts)} servers: name the one that takes writes, or an address that follows it"
        )
    return tuple(hosts)


def _parts(path: str, kind: Kind, shown: str) -> tuple[str, ...]:
    parts = [unquote(part) for part in path.removeprefix("/").split("/")]
    wanted = {REDIS: 2, RABBITMQ: 3}.get(kind, 1)
    if kind is REDIS:  # names of streams may hold slashes
        parts = [parts[0], "/".join(parts[1:])]
    elif kind is RABBITMQ and len(parts) == 2:  # the exchange without a name: straight to the queue
        parts = [parts[0], "", parts[1]]
    if len(parts) != wanted or not parts[0] or not parts[-1]:
        raise ConfigError(f"{shown} does not say where the events go: write it as {kind.example}")
    for part in parts:
        for place in IN_BRACES.findall(part):
            if place not in PLACES:
                raise ConfigError(f"{shown} holds {{{place}}}: only {{type}} and {{lane}} can be filled in")
    if kind is REDIS and not parts[0].isdigit():
        raise ConfigError(
            f"{shown} has {parts[0]!r} where the number of the database belongs: write it as {kind.example}"
        )
    if any(IN_BRACES.search(part) for part in parts[:-1]):
        raise ConfigError(f"{shown} has a place before its last part: only the last one can hold {{type}} and {{lane}}")
    return tuple(parts)


def _options(query: str, kind: Kind, shown: str) -> Mapping[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if kind.options is not None and name not in kind.options:
            known = f": known are {', '.join(sorted(kind.options))}" if kind.options else ""
            raise ConfigError(f"{shown} has the parameter '{name}', which a relay to this bus does not take{known}")
    return options


def _check_stream(made: Destination, lanes: int) -> None:
    """What would make ids of a stream collide is refused: Redis would drop events, and we would take it for a repeat."""
    if made.options.get("ids", "auto") != "auto":
        raise ConfigError(
            f"{made.shown}: ids takes only 'auto' (the server numbers the entries, a repeat is an entry more)"
        )
    maxlen = made.options.get("maxlen", "1")
    if not maxlen.isdigit() or int(maxlen) < 1:
        raise ConfigError(f"{made.shown}: maxlen must be a whole number of at least 1, not {maxlen!r}")
    if made.exact and lanes > 1 and not made.by_lane:
        raise ConfigError(
            f"{made.shown} is one stream for {lanes} lanes, whose ids cannot grow together: write {{lane}} into its name, or "
            "?ids=auto, which cannot recognise a repeat"
        )
