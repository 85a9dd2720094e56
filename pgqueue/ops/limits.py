"""How people see limits, change them while jobs run, and close a gate."""

from typing import NamedTuple

from pgqueue.client.options import check_integer, check_name
from pgqueue.errors import InvalidOption
from pgqueue.gates.limit import MOST_SLOTS, NAMED_AFTER
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.ops import LimitRow

MOST_SHOWN = 1000  # gates in one listing
MOST_COUNTED = 10_000  # jobs of a gate that are counted


class Changed(NamedTuple):
    """What a gate lets through now, and did before; None: any number. code: that is for the code to say again."""

    slots: int | None
    was: int | None
    known: bool
    code: bool


def set_limit(queries: Queries, name: str, slots: int | str | None) -> Steps[Changed]:
    """Let this many be past a gate at once, from now on; "code": as many as the code says. In a transaction of its own."""
    if isinstance(slots, str) and slots != "code":
        raise InvalidOption(f"a limit is a whole number, None or 'code', not {slots[:60]!r}")
    code = slots == "code"
    most = None if slots is None or code else check_integer("limit", slots, low=0, high=MOST_SLOTS)
    (row,) = yield from ask(queries.limit(check_name("limit", name), slots=most, source="code" if code else "person"))
    yield queries.poke(name)
    return Changed(row.slots, row.was, row.known, code)


def close_gate(queries: Queries, name: str, *, for_s: float | None, why: str | None) -> Steps[None]:
    """Let nobody through until it is opened, or for so long."""
    yield queries.close_gate(check_name("gate", name), for_s=for_s, why=why)


def open_gate(queries: Queries, name: str) -> Steps[bool]:
    """Let jobs through again; False: it was not closed. In a transaction of its own."""
    opened = yield from ask(queries.open_gate(check_name("gate", name)))
    if opened:
        yield queries.poke(name)
    return bool(opened)


def limits(queries: Queries) -> Steps[list[LimitRow]]:
    """The gates that anybody has set or at which jobs wait."""
    found: list[LimitRow] = yield from ask(queries.limits(limit=MOST_SHOWN, count_limit=MOST_COUNTED))
    return found


def is_gate(name: object) -> bool:
    """Whether a name that a person gives is that of a gate, and not of a queue."""
    return isinstance(name, str) and (name.startswith(NAMED_AFTER) or "=" in name)
