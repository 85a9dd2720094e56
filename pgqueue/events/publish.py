"""How events get into the log: the row of one, and the steps that append one or many."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from pgqueue.client.enqueue import COPY_CHUNK
from pgqueue.client.options import MAX_KEY, check_headers, check_text
from pgqueue.codec.calls import encode_plain
from pgqueue.config import Notify
from pgqueue.errors import InvalidOption
from pgqueue.events.types import check_type
from pgqueue.job import new_id
from pgqueue.queries import Queries, Steps

_FIELDS = {"type", "payload", "key", "headers"}


class EventRow(NamedTuple):
    """An event that is to be published, as it is stored."""

    id: str
    type: str
    key: str
    payload: str
    headers: str


def event_row(
    type_: str,
    payload: object = None,
    *,
    key: str | None = None,
    headers: Mapping[str, Any] | None = None,
    max_bytes: int,
) -> EventRow:
    """Check an event and encode it. Raises InvalidOption and InvalidArguments."""
    type_ = check_type(type_)
    where = f"event {type_}"
    if key is not None:
        try:
            key = check_text("key", key, at_most=MAX_KEY)
        except InvalidOption as error:
            raise InvalidOption(f"{where}: {error}") from None
    text = encode_plain(payload, path=f"{where}: payload", max_bytes=max_bytes)
    return EventRow(new_id(), type_, key or "", text, check_headers(headers, where=where) or "")


def event_rows(events: Iterable[Mapping[str, Any]], *, max_bytes: int) -> Iterator[EventRow]:
    """As `event_row`, for dicts of what `App.publish` takes, one at a time."""
    for number, event in enumerate(events):
        if not isinstance(event, Mapping):
            raise TypeError(
                f"event {number}: publish_many takes dicts as in {{'type': 'user.created'}}, not a {type(event).__name__}"
            )
        given = dict(event)
        if "type" not in given or not given.keys() <= _FIELDS:
            raise InvalidOption(
                f"event {number} has {', '.join(map(str, given))}: it takes type, payload, key and headers, and needs a type"
            )
        yield event_row(given.pop("type"), **given, max_bytes=max_bytes)


def publish_one(queries: Queries, row: EventRow, *, ring: Notify) -> Steps[None]:
    """Append one event."""
    yield queries.publish(row._asdict(), ring=ring)


def publish_again(queries: Queries, row: EventRow) -> Steps[None]:
    """As `publish_one`, after a try whose answer was lost: not a second time."""
    yield queries.publish_again(row._asdict())


def publish_rows(queries: Queries, rows: Iterable[EventRow], *, ring: Notify) -> Steps[list[str]]:
    """Append any number of events in order; the caller sees to it that the steps run in one transaction. Their ids."""
    ids: list[str] = []
    rest = iter(rows)
    while chunk := list(islice(rest, COPY_CHUNK)):
        yield queries.copy_events(chunk)
        ids += [row.id for row in chunk]
    if ids:
        yield queries.ring_readers(ring=ring)
    return ids
