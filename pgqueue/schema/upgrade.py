"""The schema in the database: is it there, does it fit this code, and how it is brought up to date."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from pgqueue.errors import NotAllowed, SchemaError, SchemaMissing, SchemaTooNew, SchemaTooOld
from pgqueue.queries import Queries, Statement, Steps, ask, migrations
from pgqueue.queries.schema import Stranger

T = TypeVar("T")


def newest() -> int:
    """The version of the schema that this code is written for."""
    return migrations()[-1][0]


class Applied(NamedTuple):
    """What the database holds: the version of its schema, and the oldest code that may run on that."""

    version: int
    works_with: int


def applied(queries: Queries) -> Steps[Applied]:
    """What the database holds; version 0 when there is nothing."""
    (exists,) = yield from ask(queries.schema_exists())
    rows = (yield from ask(queries.schema_versions())) if exists else []
    # The youngest migrations are unknown to this code, and each may ask for younger code than the one before.
    unknown = [row for row in rows if row.version > newest()]
    oldest = (row.version if row.works_with is None else row.works_with for row in unknown)
    return Applied(max((row.version for row in rows), default=0), max(oldest, default=0))


def strangers(queries: Queries) -> Steps[list[Stranger]]:
    """What lies in the schema and is not ours."""
    there = yield from applied(queries)
    found: list[Stranger] = yield from ask(queries.schema_strangers(there.version))
    return found


def check(queries: Queries, *, schema: str) -> Steps[None]:
    """Raise SchemaMissing, SchemaTooOld or SchemaTooNew unless the schema fits; harms no transaction it runs in."""
    there = yield from applied(queries)
    if there.version == 0:
        raise SchemaMissing(f"the schema '{schema}' has no pgqueue tables: run `pgqueue migrate`")
    if there.version < newest():
        raise SchemaTooOld(
            f"the schema '{schema}' is at version {there.version} and this code needs {newest()}: run `pgqueue migrate`"
        )
    if there.works_with > newest():
        raise _too_new(there.version, schema=schema)


def _too_new(version: int, *, schema: str) -> SchemaTooNew:
    return SchemaTooNew(
        f"the schema '{schema}' is at version {version}, newer than this code's {newest()}: upgrade pgqueue-jobs here"
    )


def migrate(queries: Queries, *, schema: str, roles: bool = False, up_to: int | None = None) -> Steps[list[str]]:
    """Apply what is missing and return its names. Runs in one transaction, under a lock: of two, the second finds nothing to do.

    up_to: the last one to apply, by its number. roles: make the group roles and give them their rights. Once they are there,
    everything is made in the owner's name, by its members only. Raises SchemaTooNew, for migrations never go back, and NotAllowed.
    """
    yield queries.schema_lock()
    yield queries.schema_patience()
    yield from queries.each("schema/citus")
    owned = yield from ask(queries.roles_owned())
    if owned == [False]:
        raise NotAllowed(
            f"only a member of {schema}_owner may change the schema '{schema}': connect as one, or grant this role {schema}_owner"
        )
    if owned:
        yield queries.roles("become")
    there = yield from applied(queries)
    # The rights of what this code does not know would be taken back.
    if there.works_with > newest() or (roles and there.version > newest()):
        raise _too_new(there.version, schema=schema)
    if there.version == 0:
        yield from _begin(queries, schema=schema)
    elif there.version < newest():
        yield from _refuse_taken(queries, there.version, schema=schema)
    done: list[str] = []
    for number, name in migrations():
        if there.version < number <= (up_to or number):
            yield from queries.each(f"migrations/{name}")
            yield queries.schema_applied(number, name=name)
            done.append(name)
    if roles:
        yield queries.roles("step_back")
        yield from queries.each("roles/create")
        yield queries.roles("become")
    if roles or (owned and done):
        yield from queries.each("roles/grant")
    return done


def _begin(queries: Queries, *, schema: str) -> Steps[None]:
    (role,) = yield from ask(queries.schema_may())
    if not role.may:
        cure = (
            f"grant usage, create on schema {schema} to {role.who}"
            if role.is_there
            else f"create schema {schema} authorization {role.who}"
        )
        what = f"create tables in the schema '{schema}'" if role.is_there else "create a schema in this database"
        raise NotAllowed(f"role {role.who} may not {what}: let its owner run `{cure}`, then `pgqueue migrate` again")
    if taken := (yield from ask(queries.schema_taken())):
        raise SchemaError(
            f"the schema '{schema}' holds {', '.join(taken)}, which pgqueue did not create: use another schema (PGQUEUE_SCHEMA)"
        )
    yield from queries.each("schema/prepare")


def _refuse_taken(queries: Queries, version: int, *, schema: str) -> Steps[None]:
    """Where a role is called like the schema its tables may lie there, and later tables of ours may want their names."""
    taken = [stranger.name for stranger in (yield from ask(queries.schema_strangers(version))) if stranger.is_needed]
    if taken:
        raise SchemaError(
            f"the schema '{schema}' holds {', '.join(taken)}, which pgqueue did not create and whose name it needs now: move it "
            f"(alter table {schema}.{taken[0]} set schema public), then `pgqueue migrate` again"
        )


def remembered(steps: Steps[T], said: list[Statement[Any]]) -> Steps[T]:
    """The same steps; `said` holds the statement that was sent last, for the caller that must name the one that failed."""
    try:
        statement = next(steps)
        while True:
            said[:] = [statement]
            statement = steps.send((yield statement))
    except StopIteration as done:
        value: T = done.value
        return value


def script(queries: Queries) -> Iterator[str]:
    """Everything `migrate` would run on an empty database, as text for psql."""
    yield "begin;\n"
    for number, _ in migrations():
        yield from script_of(queries, number)
    yield "\ncommit;\n"


def script_of(queries: Queries, number: int) -> Iterator[str]:
    """The part of one migration, as text for psql."""
    name = dict(migrations())[number]
    if number == 1:
        yield queries.text("schema/citus")
        yield queries.text("schema/prepare")
    yield f"\n-- {name}\n"
    yield queries.text(f"migrations/{name.removesuffix('.sql')}")
    yield queries.schema_applied(number, name=name).sql


def roles_script(queries: Queries) -> Iterator[str]:
    """Everything `migrate` with roles adds to the tables that are there, as text for psql."""
    yield "begin;\nset local search_path = pg_catalog, pg_temp;\n"
    yield f"{queries.schema_lock().sql.strip() % queries.schema_lock().params};\n\n"
    yield queries.text("schema/citus")
    yield queries.text("roles/create")
    yield f"\n{queries.roles('become').sql.strip()};\n\n"
    yield queries.text("roles/grant")
    yield "\ncommit;\n"
