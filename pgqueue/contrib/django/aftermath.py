"""What Django's own work on the tables brings about in ours, of which it knows no models."""

from typing import Any

from django.apps import AppConfig, apps
from django.db import connections, transaction
from django.db.migrations.loader import MigrationLoader

import pgqueue
from pgqueue import db
from pgqueue.contrib.django.project import PROJECT


def follow(app_config: AppConfig, using: str, **said: Any) -> None:
    """After a migration, and after all data were removed. Django tells both by one signal, once for each app with models.

    Only of a migration it tells the plan.
    """
    first = next(config for config in apps.get_app_configs() if config.models_module)
    if app_config is not first or using != PROJECT.said.alias:
        return
    if "plan" not in said:
        _flush(using)
    elif MigrationLoader.migrations_module("pgqueue")[0] is None:
        # A test database that is made from the models, without migrations: TEST["MIGRATE"], or pytest --no-migrations.
        pgqueue.app.migrate(connections[using])


def _flush(using: str) -> None:
    """`manage.py flush`, and the end of each TransactionTestCase: all data go, and jobs are data."""
    with transaction.atomic(using):
        db.run(db.adapt(connections[using]), pgqueue.app.queries.flush())
