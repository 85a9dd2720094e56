"""Redis Streams, and Valkey's: a stream for each name, an entry for each event.

An entry's id is `era-number`, which grows in the order of delivery: of an event that is there the server says "equal or
smaller". It says the same where the stream is ahead for another reason, and then the event is *not* there; so every such
answer is proved. Each call is one MULTI: where a call failed in its midst and later entries went through, the ids would
have passed what is missing, and it could never be added.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from redis import exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from pgqueue.buses.bus import RelayedEvent
from pgqueue.buses.destination import Destination
from pgqueue.errors import BusRefused, BusUnavailable, ConfigError

MAXLEN = 1_000_000  # entries a stream keeps, about; consumers that are further behind than that lose some
MOST_FRAMES = 10_000  # types and lanes whose frames are remembered
PIECE = 200_000  # bytes
MULTI, EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"
HAVE_IT = "equal or smaller"
NO_STREAM = "no such key"
# The first part of an id that the server made is the time in ms; ours is an era, of which each restore adds one.
MOST_ERAS = 1_000_000_000


class RedisStreams:
    """A Bus; see there."""

    def __init__(self, destination: Destination, *, relay: str, answer_s: float) -> None:
        self._destination = destination
        self._relay = relay
        self._line = Line(destination, answer_s)
        self._proved: set[str] = set()
        """Streams whose last entry is one of this relay's, or that were empty."""
        self._maxlen = destination.options.get("maxlen", str(MAXLEN))
        self._frames: dict[tuple[str, int], tuple[int, str, str]] = {}

    def send(self, events: Sequence[RelayedEvent]) -> None:
        """As Bus.send."""
        if not self._destination.exact:
            return self._refused(events, self._add(events))
        for event in events:
            if event.lane and not self._destination.by_lane:
                raise ConfigError(
                    f"{self._destination.shown} is one stream for several lanes: write {{lane}} into its name"
                )
        try:
            self._prove_streams(
                {self._destination.name_for(*kind) for kind in {(each.type, each.lane) for each in events}}
            )
            self._refused(events, self._add(events))
        except BusUnavailable:
            self._proved.clear()
            raise

    def close(self) -> None:
        """As Bus.close."""
        self._line.close()

    def _stream(self, event: RelayedEvent) -> str:
        return self._destination.name_for(event.type, event.lane)

    def _add(self, events: Sequence[RelayedEvent]) -> list[Any]:
        """One answer for each event: its id, or an error."""
        return self._line.all_or_none([self._command(event) for event in events])

    def _command(self, event: RelayedEvent) -> bytes:
        """The XADD, put together here: of 37 us of processor time that redis-py's pipeline takes an event, 25 are for that."""
        count, head, tail = self._frames.get((event.type, event.lane)) or self._frame(event.type, event.lane)
        entry_id = f"{event.era}-{event.number}" if self._destination.exact else "*"
        at, payload = event.at.isoformat(), wide(event.payload)
        text = (
            f"{head}${len(entry_id)}\r\n{entry_id}\r\n$2\r\nid\r\n${len(event.id)}\r\n{event.id}\r\n"
            f"$2\r\nat\r\n${len(at)}\r\n{at}\r\n$7\r\npayload\r\n${len(payload)}\r\n{payload}\r\n{tail}"
        )
        if event.key is not None:
            key = wide(event.key)
            text, count = f"{text}$3\r\nkey\r\n${len(key)}\r\n{key}\r\n", count + 2
        if event.headers is not None:
            text, count = text + words("headers", event.headers), count + 2
        return f"*{count}\r\n{text}".encode("latin-1")

    def _frame(self, type: str, lane: int) -> tuple[int, str, str]:
        """What all entries of a stream have in common: how many words there are, the first ones and the last ones."""
        if len(self._frames) > MOST_FRAMES:
            self._frames.clear()
        head = words("XADD", self._destination.name_for(type, lane), "MAXLEN", "~", self._maxlen)
        self._frames[type, lane] = frame = 16, head, words("type", type, "relay", self._relay)
        return frame

    def _refused(self, events: Sequence[RelayedEvent], answers: list[Any]) -> None:
        """Raises for what is not there. Repeats are proved last: a stream of the wrong type is the plainer message."""
        repeats = []
        for event, answer in zip(events, answers, strict=True):
            if not isinstance(answer, Exception):
                continue
            if HAVE_IT in str(answer):
                repeats.append(event)
            elif _is_lasting(answer):
                raise BusRefused(f"{self._destination.shown} refuses it: {_said(answer)}", event)
            else:
                raise self._line.unavailable(answer)
        if repeats:
            self._prove_repeats(repeats)

    def _prove_streams(self, streams: set[str]) -> None:
        """Before the first entry: another relay with numbers of its own would make ours look like repeats."""
        for stream, info in self._info(sorted(streams - self._proved)).items():
            last = info["last-entry"]
            writer = _pairs(last[1]).get("relay") if last else self._relay
            if writer != self._relay or _order(info["last-generated-id"])[0] >= MOST_ERAS:
                raise self._not_ours(stream)
            self._proved.add(stream)

    def _prove_repeats(self, events: Sequence[RelayedEvent]) -> None:
        """That the entry is this very event; where it was trimmed or deleted since, that the stream's ids are ours."""
        asked: dict[str, dict[str, RelayedEvent]] = {}
        for event in events:
            asked.setdefault(self._stream(event), {})[f"{event.era}-{event.number}"] = event
        ranges = [("XRANGE", stream, min(ids, key=_order), max(ids, key=_order)) for stream, ids in asked.items()]
        gone = []
        for (stream, ids), entries in zip(asked.items(), self._line.each(ranges), strict=True):
            if isinstance(entries, Exception):
                raise self._line.unavailable(entries)
            found = {entry_id: _pairs(entry).get("id") for entry_id, entry in entries}
            if any(found.get(entry_id, event.id) != event.id for entry_id, event in ids.items()):
                raise self._not_ours(stream)
            if not ids.keys() <= found.keys():
                gone.append(stream)
        for stream, info in self._info(gone).items():
            if _order(info["last-generated-id"])[0] >= MOST_ERAS:
                raise self._not_ours(stream)

    def _info(self, streams: Sequence[str]) -> dict[str, dict[str, Any]]:
        """XINFO of those that exist."""
        found = {}
        answers = self._line.each([("XINFO", "STREAM", stream) for stream in streams])
        for stream, answer in zip(streams, answers, strict=True):
            if NO_STREAM in str(answer) or _is_lasting(answer):
                continue  # what is wrong with its type the XADD will say
            if isinstance(answer, Exception):
                raise self._line.unavailable(answer)
            found[stream] = _pairs(answer)
        return found

    def _not_ours(self, stream: str) -> BusUnavailable:
        """Not a refusal: nothing is lost, and all goes out once the stream is free."""
        return BusUnavailable(
            f"the stream {stream} of {self._destination.shown} has entries that relay {self._relay} did not write, or not with "
            "these ids: give the relay a stream of its own, delete that one, or write ?ids=auto"
        )


class Line:
    """The connection, opened when something is sent, and again after an error."""

    def __init__(self, destination: Destination, answer_s: float) -> None:
        (host, port), *_ = destination.hosts
        self._shown = destination.shown
        self._conn: Any = (SSLConnection if destination.tls else Connection)(
            host=host, port=port, db=int(destination.parts[0]), username=destination.user, password=destination.password,
            socket_timeout=answer_s, socket_connect_timeout=answer_s / 2, socket_keepalive=True, protocol=2, decode_responses=True,
            retry=Retry(NoBackoff(), 0),  # trying again is the relay's, which knows when
        )  # fmt: skip

    def all_or_none(self, commands: Sequence[bytes]) -> list[Any]:
        """The answers of packed commands, in one MULTI: one at least, and errors among them."""
        first, *others = self._answers([MULTI, *commands, EXEC], len(commands) + 2)
        *_, last = others
        if isinstance(last, Exception):  # for what one of them was told
            errors = [answer for answer in (first, *others) if isinstance(answer, Exception)]
            raise self.unavailable(errors[0])
        answers: list[Any] = last
        return answers

    def each(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """The answers of commands, errors among them."""
        return self._answers(self._conn.pack_commands(commands), len(commands)) if commands else []

    def _answers(self, packed: Sequence[bytes], count: int) -> list[Any]:
        try:
            self._leave_a_dead_one()
            self._conn.send_packed_command(_joined(packed))
            return [self._answer() for _ in range(count)]
        except (RedisError, OSError) as error:
            self.close()
            raise self.unavailable(error) from None
        except BaseException:
            self.close()  # what is unread would be taken for the answers of the next call
            raise

    def _leave_a_dead_one(self) -> None:
        """A server that was restarted while nothing was sent has closed it: that is no reason to fail."""
        try:
            if self._conn.is_connected and self._conn.can_read(timeout=0):
                self.close()
        except (RedisError, OSError):
            self.close()

    def _answer(self) -> Any:
        try:
            return self._conn.read_response()
        except ResponseError as error:
            return error

    def close(self) -> None:
        """Never raises; the next call opens it again."""
        self._conn.disconnect()

    def unavailable(self, error: Exception) -> BusUnavailable:
        """What an error means that is not about one event."""
        match error:
            case exceptions.TimeoutError():
                return BusUnavailable(f"{self._shown} does not answer: {_said(error)}")
            case exceptions.AuthenticationError():
                return BusUnavailable(f"{self._shown} refuses the user or the password: {_said(error)}")
            case exceptions.ConnectionError() | OSError():
                return BusUnavailable(f"{self._shown} cannot be reached: {_said(error)}")
        return BusUnavailable(f"{self._shown} refuses for now: {_said(error)}")


def wide(text: str) -> str:
    """A character for each byte of its UTF-8, so that its length is what the protocol counts."""
    return text if text.isascii() else text.encode().decode("latin-1")


def words(*values: str) -> str:
    """Words of a command, as they are sent."""
    return "".join(f"${len(value)}\r\n{value}\r\n" for value in map(wide, values))


def _joined(packed: Sequence[bytes]) -> Iterator[bytes]:
    """In pieces that are worth a system call each, and never all of it once more."""
    piece: list[bytes] = []
    size = 0
    for part in packed:
        piece.append(part)
        size += len(part)
        if size > PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)


def _pairs(flat: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _order(entry_id: str) -> tuple[int, int]:
    era, _, number = entry_id.partition("-")
    return int(era), int(number)


def _is_lasting(error: object) -> bool:
    """Whether the command can never work. What passes, of memory, roles, rights, start and stop, has a word of its own.

    redis-py has a class for some of those words; the word ERR, of all other errors, it cuts off.
    """
    word = _said(error).partition(" ")[0] if type(error) is ResponseError else "PASSES"
    return word == "WRONGTYPE" or not word.isupper()


def _said(error: object) -> str:
    return str(error).strip() or type(error).__name__


def open_bus(destination: Destination, *, relay: str, answer_s: float) -> RedisStreams:
    """For `connect`."""
    return RedisStreams(destination, relay=relay, answer_s=answer_s)
