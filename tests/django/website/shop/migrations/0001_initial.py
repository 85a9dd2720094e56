"""pgqueue's tables."""

from typing import Any

from django.db import migrations

import pgqueue
from pgqueue import db, schema


def make_schema(apps: Any, editor: Any) -> None:
    db.run(db.adapt(editor.connection), schema.migrate(pgqueue.app.queries, schema="pgqueue"))


class Migration(migrations.Migration):
    initial = True
    operations = [migrations.RunPython(make_schema, migrations.RunPython.noop)]
