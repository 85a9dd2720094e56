"""The triggers of one App: declared in code, and made in its database."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TypedDict, Unpack

from pgqueue.client.connections import AppConnections
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.task import AnyTask
from pgqueue.triggers.checking import TriggerFault, check_triggers
from pgqueue.triggers.declared import DeclaredTrigger, Each, Payload, TriggerEvent, declared
from pgqueue.triggers.listing import ListedTrigger, listing_of_triggers
from pgqueue.triggers.tasks import with_task
from pgqueue.triggers.writing import Change, drop_triggers, script, write

AGAIN = "pgqueue trigger check"


class WantedTrigger(TypedDict, total=False):
    """What a trigger is to do: `on`, and one of task, event and notify."""

    on: Iterable[TriggerEvent]
    """insert, update, delete, truncate. An update that changes a primary key is a delete and an insert."""
    task: AnyTask | str | None
    """A job of it for each row: its arguments are the event, and what payload says. Of a truncate, the event alone."""
    event: str | None
    """An event of this type for each row, with the table and the key as its key."""
    notify: str | None
    """A notification for each row on this channel, for App.listen; of any length."""
    columns: Iterable[str]
    """An update counts if one of these has changed; default: any column."""
    when: str | None
    """SQL over `new` and `old`, in which names of functions and types have their schema: `new.plan = 'pro'`."""
    payload: Payload
    """pk: the primary key. row: the new row, of a delete the old one. changes: the key, and [before, after] of each column."""
    each: Each | None
    """One call for each statement, which is faster, or for each row; default: what sees every change of the table."""
    bulk: bool | None
    """One job for each 1,000 rows, with a list; default: if the task's second argument is declared as a list."""
    always: bool
    """Also in sessions that replicate or restore."""
    skip_own: bool
    """Not for changes that the task itself makes when it is atomic, or under `set local pgqueue.origin = 'task'`."""
    name: str | None
    """Default: of table and target."""


class AppTriggers:
    """See App.trigger. `declared` holds what the code declares, by name."""

    def __init__(self, database: AppConnections, tasks: Mapping[str, AnyTask]) -> None:
        self.declared: dict[str, DeclaredTrigger] = {}
        self._database = database
        self._tasks = tasks

    def declare(self, table: str, **wanted: Unpack[WantedTrigger]) -> None:
        """As App.trigger."""
        made = wish(table, **wanted)
        if made.name in self.declared:
            raise ConfigError(f"two triggers are called {made.name}: give one of them name=")
        self.declared[made.name] = made

    def sync(self) -> list[Change]:
        """Make the declared triggers in the database, and change those that differ; all or none. It drops no other one.

        Raises ConfigError (an unknown task, table, column or condition), NotAllowed and SchemaError.
        """
        return write(self._database, self._wanted(), by_code=True)

    def create(self, wanted: DeclaredTrigger) -> list[Change]:
        """Make one that no code declares; raises as `sync`, and ConfigError if there is one of that name."""
        return write(self._database, [wanted], by_code=False)

    def script(self, wanted: DeclaredTrigger | None = None) -> str:
        """What `sync` or `create` would send, as text for psql."""
        return script(self._database, self._wanted() if wanted is None else [wanted], by_code=wanted is None)

    def check(self, *, by_code: bool = True) -> list[TriggerFault]:
        """What is wrong with the triggers in the database; by_code: also how they differ from those that are declared."""
        wanted = {wanted.name: wanted for wanted in self._wanted()} if by_code else None
        database = self._database
        steps = partial(check_triggers, database.queries, database.config, wanted=wanted, tasks=self._tasks)
        return database.change(steps, again=AGAIN)

    def listing(self) -> list[ListedTrigger]:
        """Those in the database, by name."""
        return self._database.run(listing_of_triggers(self._database.queries))

    def drop(self, names: Iterable[str]) -> None:
        """Drop these from the database, with their functions; raises ConfigError if there is no such one."""
        drop_triggers(self._database, [*names])

    def _wanted(self) -> list[DeclaredTrigger]:
        return [with_task(wanted, self._tasks) for wanted in self.declared.values()]


def wish(table: str, **wanted: Unpack[WantedTrigger]) -> DeclaredTrigger:
    """What is asked for, checked; raises InvalidOption."""
    if unknown := wanted.keys() - WantedTrigger.__annotations__.keys():
        known = ", ".join(WantedTrigger.__annotations__)
        raise InvalidOption(f"a trigger has no option '{min(unknown)}'; there are {known}")
    task = wanted.get("task")
    return declared(table, **{**wanted, "task": task if isinstance(task, str | None) else task.name})  # type: ignore[arg-type]
