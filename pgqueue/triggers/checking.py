"""What is wrong with the triggers of a database, each with its cure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pgqueue import schema
from pgqueue.config import Config
from pgqueue.errors import ConfigError
from pgqueue.queries import Queries, Steps, ask
from pgqueue.queries.triggers import Recorded, Table
from pgqueue.triggers.declared import EVENTS, DeclaredTrigger, fitted
from pgqueue.triggers.rendering import find_table, prefix, render
from pgqueue.triggers.state import differences
from pgqueue.triggers.writing import found_of

SYNC = "run `pgqueue trigger sync`"


class TriggerFault(NamedTuple):
    """problem: changes of a table are lost, or are about to be. Else: worth knowing."""

    problem: bool
    name: str
    what: str
    cure: str


def check_triggers(
    queries: Queries, config: Config, *, wanted: Mapping[str, DeclaredTrigger] | None, tasks: Mapping[str, Any]
) -> Steps[list[TriggerFault]]:
    """Look at everything that was made. wanted: what the code declares; None: no code is known, so none is missed."""
    yield from schema.check(queries, schema=config.schema)
    found: list[TriggerFault] = []
    wanted = None if wanted is None else {name: fitted(each, config) for name, each in wanted.items()}
    recorded = yield from ask(queries.triggers())
    for each in recorded:
        found += yield from _faults(queries, config, each)
        found += _of_code(each, wanted, tasks)
    names = {each.name for each in recorded}
    found += [
        TriggerFault(True, name, "it is declared in the code and not in the database", SYNC)
        for name in wanted or {} if name not in names
    ]  # fmt: skip
    ours = {f"{prefix(name, schema=config.schema)}{event}" for name in names for event in EVENTS}
    for function in (yield from ask(queries.unrecorded(ours))):
        what = f"the function {config.schema}.{function} belongs to no trigger that is known"
        found.append(TriggerFault(False, function, what, f'drop function {config.schema}."{function}" cascade'))
    return sorted(found, key=lambda fault: not fault.problem)


def _faults(queries: Queries, config: Config, each: Recorded) -> Steps[list[TriggerFault]]:
    cure = SYNC if each.declared_at else f"drop it (`pgqueue trigger drop {each.name}`) and create it again"
    spec = DeclaredTrigger.from_json(each.spec)
    table = yield from find_table(queries, each.table_name)
    if table is None:
        return [TriggerFault(True, each.name, f"its table {each.table_name} is gone or has another name", cure)]
    try:
        rendered = yield from render(queries, spec, table, schema=config.schema)
    except ConfigError as error:
        return [TriggerFault(True, each.name, str(error).removeprefix(f"trigger {each.name}: "), cure)]
    state = yield from found_of(queries, each.name, config)
    found = [TriggerFault(True, each.name, what, cure) for what in differences(each, state, rendered)]
    return [*found, *_partitions(spec, table)]


def _partitions(spec: DeclaredTrigger, table: Table) -> Iterator[TriggerFault]:
    if spec.each == "statement" and (table.kind == "p" or table.is_part):
        other = "a statement that names a partition" if table.kind == "p" else "a statement that names the whole table"
        yield TriggerFault(
            True, spec.name, f"{other} does not fire its trigger, as it is one for each statement", "use each='row'"
        )
    elif table.kind == "p" and "update" in spec.on and not {"insert", "delete"} <= set(spec.on):
        what = "an update that moves a row to another partition is a delete and an insert, which it is not for"
        yield TriggerFault(False, spec.name, what, "add insert and delete to on, or never change the partition key")


def _of_code(
    each: Recorded, wanted: Mapping[str, DeclaredTrigger] | None, tasks: Mapping[str, Any]
) -> Iterator[TriggerFault]:
    if wanted is None:
        return
    spec, drop = (
        DeclaredTrigger.from_json(each.spec),
        f"`pgqueue trigger drop {each.name}`, if no other app declares it",
    )
    declared = wanted.get(each.name)
    if each.declared_at and declared is None:
        yield TriggerFault(False, each.name, "the code does not declare it any longer", drop)
    elif declared is not None and declared.to_json() != each.spec:
        yield TriggerFault(True, each.name, f"the code declares it differently: {_differs(declared, spec)}", SYNC)
    elif spec.kind == "task" and spec.target not in tasks:
        yield TriggerFault(True, each.name, f"the app has no task {spec.target}: its jobs wait in vain", drop)


def _differs(declared: DeclaredTrigger, spec: DeclaredTrigger) -> str:
    now, then = json.loads(declared.to_json()), json.loads(spec.to_json())
    return ", ".join(name for name in now if now[name] != then[name])
