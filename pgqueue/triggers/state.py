"""How what the server has differs from what a trigger was made as, and from what it would be made as now."""

import json
from collections.abc import Iterator, Sequence

from pgqueue.queries.triggers import Found, Recorded
from pgqueue.triggers.rendering import Rendered

ENABLED = {True: "A", False: "O"}


def differences(recorded: Recorded, found: Sequence[Found], rendered: Rendered) -> Iterator[str]:
    """What a person must know, and `trigger sync` mends; nothing if all is as it should be."""
    here = {state.event: state for state in found}
    then = json.loads(recorded.state)
    wanted = rendered.wanted
    if recorded.keys != rendered.table.keys:
        then_keys, now_keys = (", ".join(keys) for keys in (recorded.keys, rendered.table.keys))
        yield f"the primary key of {rendered.table.qualified} was ({then_keys}) and is ({now_keys})"
    for event in wanted.on:
        state = here.get(event)
        if state is None or state.table_name is None:
            yield f"its {'function' if state is None else 'trigger'} for {event} is missing"
        else:
            yield from _differences(state, then.get(event, {}), rendered)
    for event in here.keys() - set(wanted.on):
        yield f"it has a function for {event}, which was not asked for"


def _differences(state: Found, then: dict[str, str], rendered: Rendered) -> Iterator[str]:
    event = state.event
    if state.table_name != rendered.table.qualified:
        yield f"its trigger for {event} is on {state.table_name}, not on {rendered.table.qualified}"
    changed = [name for name in ("body", "rights", "definition") if then.get(name) != getattr(state, name)]
    if changed:
        part = "trigger" if changed == ["definition"] else "function"
        yield f"its {part} for {event} was changed by hand"
    elif state.body != rendered.digest(event):
        yield f"its function for {event} was made for another form of the table, or by another version of pgqueue"
    if state.enabled != ENABLED[rendered.wanted.always]:
        how = {
            "D": "is disabled",
            "A": "fires in sessions that replicate too",
            "R": "fires in sessions that replicate alone",
        }
        yield f"its trigger for {event} {how.get(str(state.enabled), 'does not fire in sessions that replicate')}"
    if state.disabled_parts:
        yield f"its trigger for {event} is disabled on {state.disabled_parts} partitions"
