"""Commands about limits: what they are, who waits there, and how to change them while jobs run."""

from typing import Annotated, Literal

import typer

from pgqueue.cli.options import CHANGE, LOOK, AppName, Json, chosen_app
from pgqueue.cli.output import say, say_json, say_table
from pgqueue.errors import InvalidOption
from pgqueue.ops.limits import BREAKER, MOST_COUNTED
from pgqueue.queries.ops import LimitRow


def limit(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="task:NAME, queue:NAME, a limit's name, or one key: tenant=42.")
    ],
    slots: Annotated[
        str, typer.Argument(metavar="N|none|code", help="How many at once; code: as the code says again.")
    ] = "",
    now: Annotated[
        bool, typer.Option("--now", help="Have those wait again that were let through and do not run yet.")
    ] = False,
    weight: Annotated[int | None, typer.Option(help="Instead: shares of a key that takes turns.")] = None,
    app: AppName = None,
) -> None:
    """Change how many jobs may run at once, from now on. It stays through deploys, until `code`."""
    if (weight is None) is not bool(slots):
        raise InvalidOption(f"{name[:200]}: say either how many at once, or --weight")
    taken = chosen_app(app).limit(name, _wanted(slots), weight=weight, now=now)
    if weight is not None:
        say(f"{name} has {weight} {'share' if weight == 1 else 'shares'}")
        return
    meaning = {
        "none": "has no limit of its own",
        "code": "is limited as the code says, from the next start of a worker on",
    }
    waiting = f"; of those that were let through {taken} wait again" if taken else ""
    say(f"{name} {meaning.get(slots, f'lets {slots} through at once')}{waiting}")


def _wanted(slots: str) -> int | Literal["code", ""] | None:
    if slots in ("code", ""):
        return slots  # type: ignore[return-value]
    if slots != "none" and not slots.isdecimal():
        raise InvalidOption(f"a limit is a whole number from 0 on, none or code, not {slots[:60]!r}")
    return None if slots == "none" else int(slots)


def limits(app: AppName = None, as_json: Json = False) -> None:
    """List limits: how many jobs are past each, and how many wait there."""
    found = chosen_app(app).limits()
    if as_json:
        say_json([row._asdict() for row in found])
        return
    rows = (
        [row.gate, _slots(row), _counted(row.past), _counted(row.waiting), _state(row), row.source or "nobody"]
        for row in found
    )
    say_table(["GATE", "LIMIT", "PAST IT", "WAITING", "STATE", "SET BY"], rows, empty="no limits")


def _slots(row: LimitRow) -> str:
    if row.fair and row.slots is None:
        return "fair" if row.weight == 1 else f"fair, {row.weight} shares"
    return "none" if row.slots is None else str(row.slots)


def _counted(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count}+" if count >= MOST_COUNTED else str(count)


def _state(row: LimitRow) -> str:
    if row.half_open:
        return "half-open, tries " + (row.trial or "the next job")
    if not row.closed:
        return "unknown" if row.source is None else "open"
    by = f" by {BREAKER}" if row.closed_by == BREAKER else ""
    until = "" if row.closed_for_s is None else f" for {row.closed_for_s:.0f} s"
    return f"closed{by}{until}" + (f", {row.closed_why}" if by else "")


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.command(rich_help_panel=CHANGE)(limit)
    cli.command(rich_help_panel=LOOK)(limits)
