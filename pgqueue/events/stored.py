"""An event as the argument of a job: what dispatch.sql makes, for those that are made here."""

import json
from collections.abc import Iterable

from pgqueue.queries.events import Logged


def as_args(row: Logged) -> str:
    """The arguments of a job that takes this event, as JSON text; the payload as it was published."""
    return f"[{_as_json(row)}]"


def as_batch_args(rows: Iterable[Logged]) -> str:
    """The same of a job that takes a list of events."""
    return f"[[{', '.join(map(_as_json, rows))}]]"


def _as_json(row: Logged) -> str:
    given = {"id": row.id, "type": row.type, "at": row.at.isoformat(), "key": row.key or None}
    return f'{json.dumps(given)[:-1]}, "headers": {row.headers or "null"}, "payload": {row.payload}}}'
