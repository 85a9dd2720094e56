"""Our numbered SQL as migrations of Django: each file of sql/migrations has one of the same name, which applies it."""

from typing import Any

from django.apps import apps
from django.db import migrations, router
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState

import pgqueue
from pgqueue import schema
from pgqueue.contrib.django.project import PROJECT
from pgqueue.errors import SchemaError
from pgqueue.queries import migrations as numbered


class NumberedSQL(Operation):
    """Applies one numbered file to the database that holds the jobs, unless it is there already; no other database gets any.

    It runs as in `pgqueue migrate`: in a transaction of its own, which never waits long for a lock and tries again, for
    others queue up behind who waits.
    """

    reversible = True  # or Django would say that it is not, and not what to do

    def __init__(self, number: int) -> None:
        self.number = number

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The first brings the model of the view, with the fields of today: as Django manages none, none needs a migration."""
        if self.number == 1:
            state.add_model(ModelState.from_model(apps.get_model(app_label, "JobRow")))

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Apply it."""
        if not self._is_meant(app_label, schema_editor.connection):
            return
        if schema_editor.collect_sql:  # `manage.py sqlmigrate`
            schema_editor.collected_sql += schema.script_of(pgqueue.app.queries, self.number)
        else:
            pgqueue.app.migrate(schema_editor.connection, up_to=self.number)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Refused: older code works on the newer tables, and there may be jobs in them."""
        if self._is_meant(app_label, schema_editor.connection):
            name = pgqueue.app.config.schema
            raise SchemaError(
                f"pgqueue's migrations never go back: older code works on the newer tables. To lose all jobs, `drop schema {name} "
                "cascade`, then `manage.py migrate --fake pgqueue zero`"
            )

    def _is_meant(self, app_label: str, connection: Any) -> bool:
        return connection.alias == PROJECT.said.alias and router.allow_migrate(connection.alias, app_label)

    def describe(self) -> str:
        """For `manage.py migrate --plan`."""
        return f"Apply pgqueue's {_name(self.number)}.sql"


def _name(number: int) -> str:
    return dict(numbered())[number].removesuffix(".sql")


def migration(number: int) -> type[migrations.Migration]:
    """The class that Django looks for in a module of migrations."""
    earlier = [other for other, _ in numbered() if other < number]
    content = {
        "dependencies": [("pgqueue", _name(before)) for before in earlier[-1:]],
        "operations": [NumberedSQL(number)],
        "atomic": False,
    }
    return type("Migration", (migrations.Migration,), content)
