"""A project of Django in a folder of its own, as `django-admin startproject` and a user make it; its commands are processes."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

from psycopg.conninfo import conninfo_to_dict

from tests.shell import ROOT, Shell

MANAGE = """
    import os
    import sys

    from django.core.management import execute_from_command_line

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site1.settings")
    execute_from_command_line(sys.argv)
"""
SETTINGS = """
    SECRET_KEY = "x"
    USE_TZ = True
    TIME_ZONE = "America/Chicago"
    INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "pgqueue.contrib.django", "shop"]
    DATABASES = {{"default": {database}}}
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
MODELS = """
    from django.db import models


    class Order(models.Model):
        id = models.BigAutoField(primary_key=True)
        item = models.TextField()
"""
TASKS = """
    from pgqueue import task

    from shop.models import Order


    @task
    def ship(item: str) -> int:
        return Order.objects.create(item=item).pk


    @task
    async def ship_async(item: str) -> int:
        return (await Order.objects.acreate(item=item)).pk
"""
MIGRATION = """
    from django.db import migrations, models


    class Migration(migrations.Migration):
        initial = True
        operations = [
            migrations.CreateModel(
                "Order",
                [("id", models.BigAutoField(primary_key=True, serialize=False)), ("item", models.TextField())],
            )
        ]
"""


IMPORTED = (
    "django.core.management", "django.db.backends.postgresql.base", "django.core.management.commands.migrate",
    "django.core.management.commands.makemigrations", "django.core.management.commands.test", "django.contrib.auth.hashers",
    "django.test.runner", "django.forms", "pgqueue.cli",
)  # fmt: skip


class Site:
    """Its files, and what is typed in its folder. python: the interpreter of another environment than ours."""

    def __init__(self, folder: Path, dsn: str, shell: Shell | None, *, python: Path | None = None) -> None:
        self.folder = folder
        self.dsn = dsn
        self.python = str(python or sys.executable)
        self._shell = shell
        self.write("manage.py", MANAGE)
        self.write("site1/__init__.py", "")
        self.write("site1/settings.py", SETTINGS.format(database=database(dsn)))
        self.write("shop/__init__.py", "")
        self.write("shop/models.py", MODELS)
        self.write("shop/tasks.py", TASKS)
        self.write("shop/migrations/__init__.py", "")
        self.write("shop/migrations/0001_initial.py", MIGRATION)

    def write(self, name: str, text: str) -> None:
        """One of its files."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    def set(self, text: str) -> None:
        """More settings."""
        with (self.folder / "site1/settings.py").open("a") as file:
            file.write(f"{dedent(text)}\n")

    def manage(self, *words: str, fails: bool = False, env: Mapping[str, str] = {}) -> str:
        """What `manage.py` says, on either stream; it must end with 0, or with another code if it fails."""
        return self._run("manage.py", *words, fails=fails, env=env)

    def command(self, script: str, *words: str) -> list[str]:
        """One of its scripts, for a process that is started otherwise."""
        return [self.python, "-W", "error", str(self.folder / script), *words]

    def program(self, code: str, *, fails: bool = False) -> str:
        """What a program of the project says."""
        self.write("program.py", f"import django\n\ndjango.setup()\n{dedent(code)}")
        return self._run("program.py", fails=fails, env={"DJANGO_SETTINGS_MODULE": "site1.settings"})

    def _run(self, script: str, *words: str, fails: bool, env: Mapping[str, str]) -> str:
        done = self._by_shell(script, *words, env=env) if self._shell else self.python_run(script, *words, env=env)
        said = (done.stdout + done.stderr).decode()
        assert bool(done.returncode) == fails, said
        return said

    def _by_shell(self, script: str, *words: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[bytes]":
        assert self._shell
        return self._shell.run(
            *words, script=str(self.folder / script), imported=IMPORTED, options=("-W", "error"), cwd=self.folder,
            env=self.environment(env),
        )  # fmt: skip

    def python_run(self, *words: str, env: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[bytes]":
        """Run Python in its folder, in a process of its own."""
        return subprocess.run(
            [self.python, "-W", "error", *words], cwd=self.folder, env=self.environment(env), capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip

    def environment(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        """Without a word on the database: only the settings name it."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PGQUEUE_", "DATABASE_URL"))}
        return {**own, "PYTHONPATH": str(ROOT), **more}


def database(dsn: str, **more: object) -> dict[str, object]:
    """An entry of DATABASES."""
    parts = conninfo_to_dict(dsn)
    keys = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    given = {key: str(parts[name]) for key, name in keys.items() if parts.get(name)}
    return {"ENGINE": "django.db.backends.postgresql", **given, **more}
