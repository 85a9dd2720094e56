"""A wanted trigger as SQL: what the server says of its table, and the texts of sql/triggers filled with that."""

import hashlib
from dataclasses import dataclass

from pgqueue.channels.names import native
from pgqueue.errors import ConfigError
from pgqueue.queries import Queries, Row, Statement, Steps, ask
from pgqueue.queries.triggers import Pieces, Quoted, Table
from pgqueue.triggers.declared import EVENTS, DeclaredTrigger

Said = dict[str, str]


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a trigger is to be on this table. said: for each event, what fills the places of the texts."""

    wanted: DeclaredTrigger
    table: Table
    by_row: bool
    said: dict[str, Said]

    def digest(self, event: str) -> str:
        """Of the body of the function, as the server computes it."""
        return hashlib.md5(self.said[event]["body"].encode(), usedforsecurity=False).hexdigest()


def find_table(queries: Queries, name: str) -> Steps[Table | None]:
    """The table of that name, as the database's users find it."""
    yield queries.their_path()
    found = yield from ask(queries.trigger_table(name))
    yield queries.pinned_path()
    return found[0] if found else None


def render(queries: Queries, wanted: DeclaredTrigger, table: Table, *, schema: str) -> Steps[Rendered]:
    """Raises ConfigError for a table that can have no such trigger."""
    _check_table(wanted, table)
    by_row = is_by_row(wanted, table)
    pieces = yield from ask(
        queries.trigger_pieces(
            table, columns=list(wanted.columns), events=list(wanted.on), by_row=by_row, as_object=wanted.kind != "task",
            payload=wanted.payload,
        )
    )  # fmt: skip
    known = yield from _literals(queries, wanted)
    said = {}
    for piece in pieces:
        said[piece.event] = _said(queries, wanted, piece, known, by_row=by_row)
        said[piece.event] |= {"table": table.qualified}
    names = yield from function_names(queries, wanted.name, schema=schema)
    for event, part in said.items():
        part["function"] = names[event].name
    return Rendered(wanted, table, by_row, said)


def prefix(name: str, *, schema: str) -> str:
    """How the functions and triggers of a trigger begin; the event follows."""
    return f"{schema}_{name}_"


def function_names(queries: Queries, name: str, *, schema: str) -> Steps[dict[str, Quoted]]:
    """What the function and the trigger for each event are called."""
    quoted = yield from ask(queries.quoted([f"{prefix(name, schema=schema)}{event}" for event in EVENTS]))
    return dict(zip(EVENTS, quoted, strict=True))


def is_by_row(wanted: DeclaredTrigger, table: Table) -> bool:
    """A statement that names a partition fires no trigger for statements of the whole, nor the other way round."""
    return wanted.each == "row" if wanted.each else table.kind == "p" or table.is_part


def _check_table(wanted: DeclaredTrigger, table: Table) -> None:
    what = f"trigger {wanted.name}: {table.qualified}"
    if table.is_ours:
        raise ConfigError(f"{what} is not a table of yours: pgqueue or the server writes to it")
    if table.kind not in ("r", "p"):
        raise ConfigError(f"{what} is not a table but a view or a foreign table: name the table behind it")
    if table.is_temporary:
        raise ConfigError(f"{what} is a temporary table, which ends with its session: name a lasting one")
    if table.has_heirs:
        raise ConfigError(
            f"{what} is inherited by other tables: make a trigger on each of them, or a partitioned table"
        )
    if not table.keys:
        raise ConfigError(f"{what} has no primary key, by which a row is named: add one")
    if missing := [column for column in wanted.columns if column not in table.columns]:
        raise ConfigError(f"{what} has no column {missing[0]!r}; it has {', '.join(table.columns)}")


def _literals(queries: Queries, wanted: DeclaredTrigger) -> Steps[Said]:
    texts = {
        "task": wanted.target,
        "type": wanted.target,
        "their_channel": native(wanted.target),
        "queue": wanted.queue,
    }
    if wanted.headers is not None:
        texts["headers"] = wanted.headers
    quoted = yield from ask(queries.quoted(list(texts.values())))
    return {"headers": "null", **{name: said.literal for name, said in zip(texts, quoted, strict=True)}} | {
        "priority": str(wanted.priority),
        "timeout_s": "null" if wanted.timeout_s is None else repr(wanted.timeout_s),
        "expires_s": "null" if wanted.expires_s is None else repr(wanted.expires_s),
    }


def _said(queries: Queries, wanted: DeclaredTrigger, piece: Pieces, known: Said, *, by_row: bool) -> Said:
    said = {**known, **piece._asdict(), "when": wanted.when or "true"}
    counts = f"({piece.unpaired} or {piece.changed}) and (\n{said['when']}\n)"
    # For each row the server has asked before it calls the function.
    said["condition"] = "true" if piece.event == "truncate" or by_row else counts
    said["tried"] = "true" if piece.event == "truncate" else counts
    skips = {"task": "skip_task"}.get(wanted.kind, "skip_all")
    said["skip"] = f"  {queries.trigger_text(skips, said)}" if wanted.skip_own else ""
    ring = queries.trigger_text("ring_workers" if wanted.kind == "task" else "ring_readers", said)
    said["ring"] = f"  {ring.rstrip()}" if wanted.rings else ""
    said["write"] = f"  {queries.trigger_text(_writes(wanted, piece.event), said).rstrip()}"
    said["body"] = f"\n{queries.trigger_text('body', said)}"
    return said


def _writes(wanted: DeclaredTrigger, event: str) -> str:
    if wanted.kind == "task":
        return "write_lots" if wanted.bulk and event != "truncate" else "write_job"
    return {"event": "write_event", "notify": "write_notification"}[wanted.kind]


def statements(queries: Queries, rendered: Rendered) -> tuple[list[Statement[Row]], list[Statement[Row]]]:
    """What makes the functions, which are their owner's, and what makes the triggers, which are those of the table's owner."""
    functions, triggers = [], []
    for event, said in rendered.said.items():
        by_row = rendered.by_row and event != "truncate"
        functions += [
            queries.trigger_part("function_row" if rendered.by_row else "function_statement", said),
            queries.trigger_part("close", said),
        ]
        triggers += [
            queries.trigger_part("trigger_row" if by_row else "trigger_statement", said),
            queries.trigger_part("enable_always" if rendered.wanted.always else "enable", said),
        ]
    return functions, triggers


def tries(queries: Queries, rendered: Rendered) -> Steps[None]:
    """Fails where a name or a condition has no meaning, and changes nothing."""
    for said in rendered.said.values():
        yield queries.trigger_try({**said, "condition": said["tried"]})
