"""The schema in the database: is it there, does it fit this code, and how it is brought up to date."""

from collections.abc import Iterator

from pgqueue.errors import NotAllowed, SchemaMissing, SchemaTooNew, SchemaTooOld
from pgqueue.queries import Queries, Steps, migrations


def newest() -> int:
    """The version of the schema that this code is written for."""
    return migrations()[-1][0]


def applied(queries: Queries) -> Steps[int]:
    """The version of the schema in the database; 0 when there is none."""
    ((exists,),) = yield queries.schema_exists()
    if not exists:
        return 0
    versions = yield queries.schema_versions()
    return max((version for (version,) in versions), default=0)


def check(queries: Queries, *, schema: str) -> Steps[None]:
    """Raise SchemaMissing, SchemaTooOld or SchemaTooNew unless the schema fits; harms no transaction it runs in."""
    version = yield from applied(queries)
    if version == 0:
        raise SchemaMissing(f"the schema '{schema}' has no pgqueue tables: run `pgqueue migrate`")
    if version < newest():
        raise SchemaTooOld(
            f"the schema '{schema}' is at version {version} and this code needs {newest()}: run `pgqueue migrate`"
        )
    if version > newest():
        raise SchemaTooNew(
            f"the schema '{schema}' is at version {version}, newer than this code's {newest()}: upgrade pgqueue-jobs here"
        )


def migrate(queries: Queries, *, schema: str, roles: bool = False) -> Steps[list[str]]:
    """Apply what is missing and return its names. Runs in one transaction, under a lock: of two, the second finds nothing to do.

    roles: make the group roles and give them their rights. Once they are there, everything is made in the owner's name, by its
    members only. Raises SchemaTooNew, for migrations never go back, and NotAllowed.
    """
    yield queries.schema_lock()
    yield queries.schema_patience()
    owned = yield queries.roles("owned")
    if owned == [(False,)]:
        raise NotAllowed(
            f"only a member of {schema}_owner may change the schema '{schema}': connect as one, or grant this role {schema}_owner"
        )
    if owned:
        yield queries.roles("become")
    version = yield from applied(queries)
    if version > newest():
        raise SchemaTooNew(
            f"the schema '{schema}' is at version {version}, newer than this code's {newest()}: upgrade pgqueue-jobs here"
        )
    done: list[str] = []
    for number, name in migrations():
        if number > version:
            if not done and version == 0:
                yield queries.schema_prepare()
            yield queries.migration(name)
            yield queries.schema_applied(number, name=name)
            done.append(name)
    if roles:
        yield queries.roles("step_back")
        yield queries.roles("create")
        yield queries.roles("become")
    if roles or (owned and done):
        yield queries.roles("grant")
    return done


def script(queries: Queries) -> Iterator[str]:
    """Everything `migrate` would run on an empty database, as text for psql."""
    yield "begin;\n"
    yield queries.schema_prepare().sql
    for number, name in migrations():
        yield f"\n-- {name}\n"
        yield queries.migration(name).sql
        yield queries.schema_applied(number, name=name).sql
    yield "\ncommit;\n"


def roles_script(queries: Queries) -> Iterator[str]:
    """Everything `migrate` with roles adds to the tables that are there, as text for psql."""
    yield "begin;\nset local search_path = pg_catalog, pg_temp;\n"
    yield f"{queries.schema_lock().sql.strip() % queries.schema_lock().params};\n\n"
    yield queries.roles("create").sql
    yield f"\n{queries.roles('become').sql.strip()};\n\n"
    yield queries.roles("grant").sql
    yield "\ncommit;\n"
