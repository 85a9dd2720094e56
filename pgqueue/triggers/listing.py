"""The triggers that were made, for people."""

from datetime import datetime
from typing import NamedTuple

from pgqueue.queries import Queries, Steps, ask
from pgqueue.triggers.declared import DeclaredTrigger


class ListedTrigger(NamedTuple):
    """One trigger. made_by: code, of which `trigger sync` has made it, or command."""

    name: str
    table: str
    on: str
    makes: str
    made_by: str
    made_at: datetime


def listing_of_triggers(queries: Queries) -> Steps[list[ListedTrigger]]:
    """All of them, by name."""
    found = []
    for each in (yield from ask(queries.triggers())):
        spec = DeclaredTrigger.from_json(each.spec)
        made_by = "code" if each.declared_at else "command"
        found.append(
            ListedTrigger(each.name, each.table_name, ",".join(spec.on), spec.in_words(), made_by, each.made_at)
        )
    return found
