"""URLs of buses: what each says, and one clear line for what is wrong with one, before anything is connected."""

import re
import sys
from pathlib import Path

import pytest

import pgqueue
from pgqueue import ConfigError
from pgqueue.buses.bus import check, connect
from pgqueue.buses.destination import KINDS, Destination


def test_a_url_is_read() -> None:
    found = Destination.read("rediss://somebody:a%40b@[::1]:7000/3/ev/{type}?maxlen=5")
    assert (found.tls, found.user, found.password, found.hosts) == (True, "somebody", "a@b", (("::1", 7000),))
    assert (found.parts, found.options) == (("3", "ev/{type}"), {"maxlen": "5"})
    assert found.name_for("user.{lane}", 2) == "ev/user.{lane}"
    assert found.shown == "rediss://[::1]:7000/3/ev/{type}" and "a@b" not in repr(found)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("amqp://host/%2F/orders", ("/", "", "orders")),
        ("amqp://host/shop/events/{type}", ("shop", "events", "{type}")),
        ("nats://host/ev.{type}", ("ev.{type}",)),
        ("kafka://one,two:9093/ev-{lane}", ("ev-{lane}",)),
        ("valkey://host/0/ev", ("0", "ev")),
    ],
)
def test_where_the_events_go(url: str, parts: tuple[str, ...]) -> None:
    assert Destination.read(url).parts == parts


def test_a_port_is_known() -> None:
    ports = {scheme: Destination.read(f"{scheme}://host/0/x").hosts[0][1] for scheme in KINDS if "redis" in scheme}
    assert ports == {"redis": 6379, "rediss": 6379}
    assert Destination.read("kafka://one,two:9093/x").hosts == (("one", 9092), ("two", 9093))


def test_a_variable_holds_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS_URL", "redis://:geheim@host/0/ev")
    assert Destination.read("env:BUS_URL").password == "geheim"
    monkeypatch.setenv("BUS_URL", "geheim")
    with pytest.raises(ConfigError, match="the variable BUS_URL is not the URL of a bus") as refused:
        Destination.read("env:BUS_URL")
    assert "geheim" not in str(refused.value)
    monkeypatch.delenv("BUS_URL")
    with pytest.raises(ConfigError, match="BUS_URL, which is not set here"):
        Destination.read("env:BUS_URL")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "needs the URL of a bus"),
        ("host/0/ev", "'host/0/ev' is not the URL of a bus: write it as redis://host:6379/0/stream:{type}"),
        ("http://host/ev", "cannot send to http://"),
        ("redis://", "redis:// names no server"),
        ("redis://host:x/0/ev", "names no server"),
        ("redis://host:99999/0/ev", "names no server"),
        ("redis://host", "does not say where the events go"),
        ("redis://host/0", "does not say where the events go"),
        ("redis://host/0/", "does not say where the events go"),
        ("redis://host/events/x", "has 'events' where the number of the database belongs"),
        ("redis://one,two/0/ev", "names 2 servers"),
        ("redis://host/0/ev:{typ}", "holds {typ}: only {type} and {lane} can be filled in"),
        ("redis://host/0/ev?maxlen=0", "maxlen must be a whole number of at least 1, not '0'"),
        ("redis://host/0/ev?maxlen=many", "maxlen must be a whole number"),
        ("redis://host/0/ev?ids=mine", "ids takes only 'auto'"),
        ("redis://host/0/ev?size=1", "has the parameter 'size', which a relay to this bus does not take: known are ids, maxlen"),
        ("nats://host", "does not say where the events go: write it as nats://host:4222/events.{type}"),
        ("nats://host/a/b", "does not say where the events go"),
        ("amqp://host/vhost", "does not say where the events go"),
        ("amqp://host/{type}/exchange/key", "only the last one can hold {type}"),
        ("kafka://host/", "does not say where the events go"),
    ],
)  # fmt: skip
def test_one_line_says_what_is_wrong(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(url)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:geheim@host/x/ev",
        "mongo://me:geheim@host/0",
        "redis://me:ge@heim@host/x/ev",
        "me:geheim@host/0?geheim",
    ],
)
def test_no_message_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(url)
    assert "geheim" not in str(refused.value) and "heim@" not in str(refused.value)


def test_one_stream_takes_one_lane() -> None:
    check("redis://host/0/ev:{type}:{lane}", lanes=4)
    check("redis://host/0/ev:{type}?ids=auto", lanes=4)
    with pytest.raises(ConfigError, match=r"one stream for 4 lanes, whose ids cannot grow together: write \{lane\}"):
        check("redis://host/0/ev:{type}", lanes=4)


@pytest.mark.parametrize("scheme", ["redis", "nats", "amqp", "kafka"])
def test_a_missing_client_names_what_to_install(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = KINDS[scheme]
    for name in [name for name in sys.modules if name.startswith((f"pgqueue.buses.{kind.module}", f"{kind.client}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, kind.client, None)
    with pytest.raises(
        ConfigError, match=rf"needs the package {kind.client}: pip install 'pgqueue-jobs\[{kind.extra}\]'"
    ):
        connect("redis://host/0/ev" if scheme == "redis" else kind.example, relay="mirror")


def test_only_a_bus_imports_its_client() -> None:
    """And no program pays for it that has no relay: nothing of it is imported with the package or the command line."""
    package = Path(pgqueue.__file__).parent
    for path in package.rglob("*.py"):
        for client, module in {kind.client: kind.module for kind in KINDS.values()}.items():
            if re.search(rf"^\s*(from|import) {client}\b", path.read_text("utf-8"), re.M):
                assert path == package / "buses" / f"{module}.py"
        if path.parent.name != "buses":
            assert not re.search(
                r"^(from|import) pgqueue\.buses\.(redis|nats|rabbitmq|kafka)", path.read_text("utf-8"), re.M
            )
