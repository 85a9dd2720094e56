"""What somebody wants of a trigger: checked as far as this is possible without the database."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self, get_args

from pgqueue.channels.names import check_channel
from pgqueue.client.options import check_name, check_text
from pgqueue.config import Config
from pgqueue.errors import InvalidOption

TriggerEvent = Literal["insert", "update", "delete", "truncate"]
Payload = Literal["pk", "row", "changes"]
Each = Literal["statement", "row"]
Kind = Literal["task", "event", "notify"]

EVENTS = get_args(TriggerEvent)
MAX_BYTES = 63  # of an identifier
LONGEST_EVENT = max(map(len, EVENTS))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTrigger:
    """One that is wanted on a table, for each of its events. `target` is the task, the type of event or the channel.

    each None: for each statement, where that sees every change of the table. bulk None: as the task declares its arguments.
    rings: wakes workers, or readers of the log. queue to headers: of the jobs of a task, as the task says, in database units.
    """

    name: str
    table: str
    on: tuple[str, ...]
    kind: str
    target: str
    columns: tuple[str, ...] = ()
    when: str | None = None
    payload: str = "pk"
    each: str | None = None
    bulk: bool | None = None
    always: bool = False
    skip_own: bool = False
    rings: bool = True
    queue: str = "default"
    priority: int = 0
    timeout_s: float | None = None
    expires_s: float | None = None
    headers: str | None = None

    def to_json(self) -> str:
        """For the table of triggers; the same wish has the same text."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What to_json wrote."""
        said: dict[str, Any] = json.loads(text)
        return cls(**said | {"on": tuple(said["on"]), "columns": tuple(said["columns"])})

    def in_words(self) -> str:
        """What it makes, for a list."""
        return f"{self.kind} {self.target}"


def declared(
    table: str,
    *,
    on: Iterable[str] = (),
    task: str | None = None,
    event: str | None = None,
    notify: str | None = None,
    columns: Iterable[str] = (),
    when: str | None = None,
    payload: str = "pk",
    each: str | None = None,
    bulk: bool | None = None,
    always: bool = False,
    skip_own: bool = False,
    name: str | None = None,
) -> DeclaredTrigger:
    """See App.trigger. Raises InvalidOption that names what is wrong and the cure."""
    check_text("table", table)
    kind, target = _target(task, event, notify)
    where = f"trigger on {table} for {kind} {target}"
    events = _events(on, where)
    watched = tuple(check_text("columns", column) for column in _several(columns, "columns", where))
    if watched and "update" not in events:
        raise InvalidOption(f"{where}: columns says which updates count, and on has no update: leave columns out")
    for option, value, known in (("payload", payload, Payload), ("each", each or "row", Each)):
        if value not in get_args(known):
            raise InvalidOption(f"{where}: {option} must be {' or '.join(get_args(known))}, not {value!r}")
    if bulk and kind != "task":
        raise InvalidOption(f"{where}: bulk puts rows together for a task; leave it out")
    return DeclaredTrigger(
        name=_name(name, table, target), table=table, on=events, kind=kind, target=target,
        columns=watched, when=_condition(when, where), payload=payload, each=each, bulk=bulk, always=always, skip_own=skip_own,
    )  # fmt: skip


def _target(task: str | None, event: str | None, notify: str | None) -> tuple[str, str]:
    given = [(kind, name) for kind, name in (("task", task), ("event", event), ("notify", notify)) if name is not None]
    if len(given) != 1:
        raise InvalidOption(f"a trigger has one of task, event and notify, and this one has {len(given)}: give one")
    ((kind, name),) = given
    check_name(kind, name)
    if kind == "event" and "*" in name:
        raise InvalidOption(f"event {name!r} has a `*`, which only a subscription may have: give one type")
    return kind, name


def _events(on: Iterable[str], where: str) -> tuple[str, ...]:
    given = _several(on, "on", where)
    if unknown := [event for event in given if event not in EVENTS]:
        raise InvalidOption(f"{where}: on takes {', '.join(EVENTS)}, not {unknown[0]!r}")
    if not given:
        raise InvalidOption(f"{where}: on is empty; it takes {', '.join(EVENTS)}")
    return tuple(event for event in EVENTS if event in given)


def _several(values: Iterable[str], option: str, where: str) -> list[str]:
    if isinstance(values, str):
        raise InvalidOption(f"{where}: {option} takes a list, as in {option}=[{values!r}]")
    return list(dict.fromkeys(values))


def _condition(when: str | None, where: str) -> str | None:
    if when is not None and (not when.strip() or "\0" in when or "$pgqueue$" in when):
        raise InvalidOption(f"{where}: when takes a condition of SQL, as in new.plan = 'pro'")
    return when


def _name(name: str | None, table: str, target: str) -> str:
    made = re.sub(r"\W+", "_", f"{table.rpartition('.')[2]}_{target.rpartition('.')[2]}").strip("_")
    return check_name("name", name or made)


def fitted(wanted: DeclaredTrigger, config: Config) -> DeclaredTrigger:
    """As the settings say. Raises InvalidOption for what does not go with the schema's name."""
    longest = MAX_BYTES - len(config.schema.encode()) - LONGEST_EVENT - 2
    if len(wanted.name.encode()) > longest:
        raise InvalidOption(
            f"trigger {wanted.name!r}: the name is too long for an identifier: give name= of {longest} bytes"
        )
    if wanted.kind == "notify":
        check_channel(wanted.target, doorbells=config.doorbells)
    return replace(wanted, rings=config.notify != "never")
