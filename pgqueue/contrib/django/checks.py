"""What `manage.py check` says of a project that uses pgqueue. E1.. and W1.. are about Django's Tasks; see also options.py."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router

import pgqueue
from pgqueue import schema
from pgqueue.contrib.django.project import BACKEND, PROJECT
from pgqueue.errors import ConfigError, SchemaMissing, SchemaTooNew, SchemaTooOld

SHOWN_MODELS = 3
POOLER_PORT = "6432"  # PgBouncer's own, unless somebody has chosen another


def register_checks(backends: Any) -> None:
    """Called when the apps are there. backends: the setting TASKS, which Django checks only once its Tasks are imported."""
    register(check_settings, Tags.database)
    register(check_schema, Tags.database)
    if any(backend.get("BACKEND") == BACKEND for backend in backends.values()):
        import_module("pgqueue.contrib.django.api")


def check_settings(**_: Any) -> list[CheckMessage]:
    """pgqueue.E001: the settings cannot be used."""
    try:
        assert pgqueue.app.config
    except ConfigError as error:
        return [Error(str(error), id="pgqueue.E001")]
    return []


def check_schema(*, databases: Collection[str] | None = None, **_: Any) -> list[CheckMessage]:
    """pgqueue.W002: the tables are not there, or are old. pgqueue.E002: they are too new for this code.

    Only where the database is named, as by `check --database default`. What `manage.py migrate` cures is a warning, as `migrate`
    itself runs the checks first and would stop at an error.
    """
    if check_settings() or PROJECT.said.alias not in (databases or ()):
        return []
    app = pgqueue.app
    try:
        with app.using(PROJECT.connection):
            app.run(schema.check(app.queries, schema=app.config.schema))
    except (SchemaMissing, SchemaTooOld) as error:
        return [Warning(str(error), hint="`manage.py migrate` does it.", id="pgqueue.W002")]
    except SchemaTooNew as error:
        return [Error(str(error), id="pgqueue.E002")]
    return []


def backend_warnings(alias: str) -> Iterator[CheckMessage]:
    """Of a backend of TASKS whose settings can be used."""
    where, database = f"TASKS['{alias}']", PROJECT.said.alias
    if elsewhere := _models_elsewhere(database):
        yield Warning(
            f"{where}: jobs go to the database '{database}', and routers write {elsewhere}: a job that is enqueued in a "
            "transaction of such a database does not commit with it",
            hint="Let PGQUEUE = {'DATABASE': ...} name the database of the models whose changes the jobs are about.",
            id="pgqueue.W101",
        )
    if _behind_pooler(connections[database].settings_dict):
        yield Warning(
            f"{where}: the database '{database}' is behind a pooler, by its port or DISABLE_SERVER_SIDE_CURSORS: workers cannot "
            "listen there, so they poll, and rescue the jobs of a dead worker later",
            hint="Enqueue through the pooler, and run workers with settings that name the server itself.",
            id="pgqueue.W102",
        )


def _models_elsewhere(database: str) -> str:
    """The models that are written to other databases, as a part of a sentence; empty if there are none."""
    found = defaultdict(list)
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy and (other := router.db_for_write(model)) != database:
            found[other].append(model._meta.label)
    return " and ".join(f"{_some(models)} to '{other}'" for other, models in sorted(found.items()))


def _some(labels: list[str]) -> str:
    more = len(labels) - SHOWN_MODELS
    return ", ".join(labels[:SHOWN_MODELS]) + (f" and {more} more" if more > 0 else "")


def _behind_pooler(settings: Any) -> bool:
    return str(settings["PORT"]) == POOLER_PORT or bool(settings.get("DISABLE_SERVER_SIDE_CURSORS"))
