"""`manage.py flush`, and the end of each TransactionTestCase: all data go, and jobs are data."""

from typing import Any

from django.apps import AppConfig, apps
from django.db import connections, transaction

import pgqueue
from pgqueue import db
from pgqueue.contrib.django.project import PROJECT


def flush(app_config: AppConfig, using: str, **said: Any) -> None:
    """Remove all jobs when Django has removed all data, as after each TransactionTestCase: it knows no models of our tables.

    It tells so as after a migration, once for each app with models, but without the plan of one.
    """
    first = next(config for config in apps.get_app_configs() if config.models_module)
    if "plan" not in said and app_config is first and using == PROJECT.said.alias:
        with transaction.atomic(using):
            db.run(db.adapt(connections[using]), pgqueue.app.queries.flush())
