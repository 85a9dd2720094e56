"""Writes wanted triggers to the database, all or none, and drops them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from pgqueue import db, schema
from pgqueue.client.connections import AppConnections
from pgqueue.config import Config
from pgqueue.errors import ConfigError, NotAllowed
from pgqueue.queries import Queries, Statement, Steps, ask
from pgqueue.queries.statement import texts
from pgqueue.queries.triggers import Found, Recorded
from pgqueue.triggers.declared import EVENTS, DeclaredTrigger, fitted
from pgqueue.triggers.rendering import Rendered, find_table, function_names, prefix, render, statements, tries
from pgqueue.triggers.state import differences

Plan = list[Statement[Any]]


class Change(NamedTuple):
    """What was done with a trigger: created, changed or unchanged."""

    name: str
    what: str


def write(database: AppConnections, wanted: Sequence[DeclaredTrigger], *, by_code: bool) -> list[Change]:
    """Make these triggers and change those that differ; all or none. by_code: they are those of an App.

    Raises ConfigError, NotAllowed, SchemaError.
    """
    doing: list[str] = []
    with _explained(doing):
        return database.change(
            partial(_writing, database.queries, database.config, wanted, by_code, doing), again="pgqueue trigger"
        )


def script(database: AppConnections, wanted: Sequence[DeclaredTrigger], *, by_code: bool) -> str:
    """What `write` would send, as text for psql."""
    doing: list[str] = []
    with _explained(doing):
        planned = database.change(
            partial(_planning, database.queries, database.config, wanted, by_code, doing), again="pgqueue trigger"
        )
    sent = "".join(f"{statement.sql.strip()};\n\n" for _, plan in planned for statement in plan)
    return f"begin;\nset local search_path = pg_catalog, pg_temp;\n\n{sent}commit;\n"


def drop_triggers(database: AppConnections, names: Sequence[str]) -> None:
    """Drop these, with everything of theirs. Raises ConfigError for a name that there is not."""
    doing: list[str] = []
    with _explained(doing):
        database.change(partial(_dropping, database.queries, database.config, names, doing), again="pgqueue trigger")


def _writing(
    queries: Queries, config: Config, wanted: Sequence[DeclaredTrigger], by_code: bool, doing: list[str]
) -> Steps[list[Change]]:
    planned = yield from _planning(queries, config, wanted, by_code, doing)
    for change, plan in planned:
        doing[:] = [change.name]
        for statement in plan:  # noqa: UP028 (rows are sent to each yield, which a list does not take)
            yield statement
    return [change for change, _ in planned]


def _planning(
    queries: Queries, config: Config, wanted: Sequence[DeclaredTrigger], by_code: bool, doing: list[str]
) -> Steps[list[tuple[Change, Plan]]]:
    """What is to be sent for each, after all of them were tried."""
    yield queries.schema_lock()  # of two that sync at once, the second finds nothing to do
    yield from schema.check(queries, schema=config.schema)
    yield queries.schema_patience()
    owned = yield from ask(queries.roles_owned())
    if owned == [False]:
        raise NotAllowed(
            f"only a member of {config.schema}_owner may change triggers: connect as one, or grant this role {config.schema}_owner"
        )
    recorded = {each.name: each for each in (yield from ask(queries.triggers()))}
    planned = []
    for each in wanted:
        doing[:] = [each.name]
        fitting = fitted(each, config)
        before = recorded.get(each.name)
        if not by_code and before is not None:
            raise ConfigError(f"there is a trigger {each.name} on {before.table_name}: drop it, or give another --name")
        planned.append((yield from _plan(queries, config, fitting, before, by_code, bool(owned))))
    return planned


def _plan(
    queries: Queries, config: Config, wanted: DeclaredTrigger, before: Recorded | None, by_code: bool, owned: bool
) -> Steps[tuple[Change, Plan]]:
    table = yield from find_table(queries, wanted.table)
    if table is None:
        raise ConfigError(
            f"trigger {wanted.name}: there is no table {wanted.table}: create it first, or name it with its schema"
        )
    rendered = yield from render(queries, wanted, table, schema=config.schema)
    yield from tries(queries, rendered)
    found = yield from found_of(queries, wanted.name, config)
    if before is not None and before.spec == wanted.to_json() and not any(differences(before, found, rendered)):
        return Change(wanted.name, "unchanged"), []
    become, back = ([queries.roles("become")], [queries.roles("step_back")]) if owned else ([], [])
    stale = {
        state.event for state in found
        if state.event not in wanted.on or state.table_name not in (None, table.qualified)
    }  # fmt: skip
    names = yield from function_names(queries, wanted.name, schema=config.schema)
    drops = [queries.trigger_part("drop", {"function": names[event].name}) for event in sorted(stale)]
    functions, triggers = statements(queries, rendered)
    record = yield from _record(queries, rendered, config, by_code)
    plan = [*become, *drops, *functions, *back, *triggers, *become, record, *back]
    return Change(wanted.name, "created" if before is None else "changed"), plan


def found_of(queries: Queries, name: str, config: Config) -> Steps[list[Found]]:
    """What the server has of a trigger."""
    (quoted,) = yield from ask(queries.quoted([prefix(name, schema=config.schema)]))
    return (yield from ask(queries.trigger_state(quoted.literal)))


def _record(queries: Queries, rendered: Rendered, config: Config, by_code: bool) -> Steps[Statement[Any]]:
    wanted, table = rendered.wanted, rendered.table
    values = {
        "trigger": wanted.name, "table_name": table.qualified, "keys": texts(table.keys), "spec": wanted.to_json(),
        "prefix": prefix(wanted.name, schema=config.schema),
    }  # fmt: skip
    quoted = yield from ask(queries.quoted(list(values.values())))
    said = {name: text.literal for name, text in zip(values, quoted, strict=True)}
    said["declared_at"] = "now()" if by_code else "null"
    said["state"] = queries.trigger_text("state", said)
    return queries.trigger_part("record", said)


def _dropping(queries: Queries, config: Config, names: Sequence[str], doing: list[str]) -> Steps[None]:
    yield queries.schema_lock()  # of two that sync at once, the second finds nothing to do
    yield from schema.check(queries, schema=config.schema)
    yield queries.schema_patience()
    if (yield from ask(queries.roles_owned())):
        yield queries.roles("become")
    known = [each.name for each in (yield from ask(queries.triggers()))]
    for name in names:
        doing[:] = [name]
        if name not in known:
            raise ConfigError(f"there is no trigger {name!r}; there are {', '.join(known) or 'none'}")
        functions = yield from function_names(queries, name, schema=config.schema)
        for event in EVENTS:
            yield queries.trigger_part("drop", {"function": functions[event].name})
        (quoted,) = yield from ask(queries.quoted([name]))
        yield queries.trigger_part("forget", {"trigger": quoted.literal})


@contextmanager
def _explained(doing: list[str]) -> Iterator[None]:
    """What the server does not understand is the caller's, in one line that names the trigger."""
    try:
        yield
    except db.DatabaseError as error:
        kind = {"42501": NotAllowed}.get(error.sqlstate or "", ConfigError)
        if not (error.sqlstate or "").startswith(("42", "0A", "22", "2B")):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise kind(f"trigger {', '.join(doing)}: {reason}; nothing was changed") from error
