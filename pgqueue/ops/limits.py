"""How people see limits, change them while jobs run, and close a gate."""

import time
from collections.abc import Callable
from typing import NamedTuple

from pgqueue.client.connections import AppConnections
from pgqueue.client.options import check_integer, check_text
from pgqueue.errors import ConfigError, InvalidOption, PgQueueError
from pgqueue.gates.admit import LOCKS
from pgqueue.gates.limit import FAIR, MOST_SHARES, MOST_SLOTS, NAMED_AFTER, check_rule_of, stored
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.ops import LimitRow

MOST_SHOWN = 1000  # gates in one listing
BREAKER = "the breaker"  # has closed a gate, as trip.sql says
MOST_COUNTED = 10_000  # jobs of a gate that are counted
TRY_AGAIN_S = 0.02  # until another try at a lock that a worker holds, which it does for milliseconds
TRIES = 250  # five seconds: by then the one that holds it is frozen


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
    gate = gate_named("limit", name)
    (row,) = yield from ask(queries.limit(gate, slots=most, source="code" if code else "person"))
    yield queries.poke(gate)
    return Changed(row.slots, row.was, row.known, code)


def lower_now(database: AppConnections, name: str, slots: int | str | None) -> int:
    """As `set_limit`; then have those wait again that were let through and are too many, unless they run. Returns how many.

    Raises ConfigError inside using(), whose transaction would keep workers from these gates, and PgQueueError if another session
    does not let go of one.
    """
    if slots is None or isinstance(slots, str):
        raise InvalidOption("now= is for a limit that is lowered to a number")
    if database.using.get() is not None:
        raise ConfigError("now= holds up workers until the end of its transaction: call it outside of using()")
    database.run_in_transaction(set_limit(database.queries, name, slots))
    _wait_for_those_who_look(database)
    gate = gate_named("limit", name)
    if "=" in gate:
        return _take_back(database, {gate})
    taken, after = 0, ""
    while found := database.run(ask(database.queries.surplus(gate, after=after, limit=LOCKS))):
        taken += _take_back(database, {row.gate for row in found if row.surplus})
        after = found[-1].gate
    return taken


def _wait_for_those_who_look(database: AppConnections) -> None:
    """Who began before the limit was set may let more through than it allows, also at gates where nobody is past yet."""
    before: list[str] = database.run(database.queries.looking())

    def ended() -> bool:
        looking: list[str] = database.run(database.queries.looking()) if before else []
        return not set(before).intersection(looking)

    _patiently(ended)


def _take_back(database: AppConnections, gates: set[str]) -> int:
    taken = 0

    def all_done() -> bool:
        nonlocal taken
        if gates:
            locked, back = database.run_in_transaction(_take_back_once(database.queries, gates))
            gates.difference_update(locked)
            taken += back
        return not gates

    _patiently(all_done)
    return taken


def _patiently(done: Callable[[], bool]) -> None:
    for _ in range(TRIES):
        if done():
            return
        time.sleep(TRY_AGAIN_S)
    raise PgQueueError(
        "the limit is set, but a session that lets jobs through hangs, so not all wait again: say it once more"
    )


def _take_back_once(queries: Queries, gates: set[str]) -> Steps[tuple[set[str], int]]:
    """The lock is only tried; what is counted is seen by a later statement, so nobody is let through unseen."""
    (locked,) = yield from ask(queries.lock_gates(sorted(gates)))
    (back,) = yield from ask(queries.take_back())
    return set(locked.gates), back.taken


def set_weight(queries: Queries, name: str, weight: int) -> Steps[None]:
    """Give one key that takes turns this many shares, from now on. In a transaction of its own."""
    if not name.startswith(FAIR) or "=" not in name:
        raise InvalidOption(
            f"a weight is of one key that takes turns, as in {FAIR}task:shop.send=acme, not of {name[:60]!r}"
        )
    gate = gate_named("limit", name)
    yield queries.weigh(gate, weight=check_integer("weight", weight, low=1, high=MOST_SHARES))
    yield queries.poke(gate)


def close_gate(queries: Queries, name: str, *, for_s: float | None, why: str | None) -> Steps[None]:
    """Let nobody through until it is opened, or for so long."""
    gate = gate_named("gate", name)
    yield queries.close_gate(gate, for_s=for_s, why=why)
    if for_s is not None:
        yield queries.poke(gate)  # who looks at it learns when it opens


def open_gate(queries: Queries, name: str) -> Steps[bool]:
    """Let jobs through again; False: it was not closed. In a transaction of its own."""
    gate = gate_named("gate", name)
    opened = yield from ask(queries.open_gate(gate))
    if opened:
        yield queries.poke(gate)
    return bool(opened)


def limits(queries: Queries) -> Steps[list[LimitRow]]:
    """The gates that anybody has set or at which jobs wait; for a role that may not read that, those that anybody has set."""
    (sees,) = yield from ask(queries.sees_gates())
    if not sees:
        return (yield from ask(queries.limits_told(limit=MOST_SHOWN)))
    return (yield from ask(queries.limits(limit=MOST_SHOWN, count_limit=MOST_COUNTED)))


def gate_named(option: str, name: str) -> str:
    """A gate as it is called in the rows, of which there can be one: a queue has no keys, so none is called `queue:a=b`."""
    rule, sign, key = check_text(option, name).partition("=")
    if rule.startswith("queue:"):
        check_rule_of("queue", name.removeprefix("queue:"))
    return f"{check_text(option, rule)}={stored(key)}" if sign else rule


def is_gate(name: object) -> bool:
    """Whether a name that a person gives is that of a gate, and not of a queue."""
    return isinstance(name, str) and (name.startswith(NAMED_AFTER) or "=" in name)
