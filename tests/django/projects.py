"""The project of tests/django/website, in processes of its own: Django can be set up only once in each."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from tests.shell import ROOT

SETTINGS = "tests.django.website.settings"
WORKER = "pgqueue.contrib.django.worker"
TIMEOUT_S = 120


def environment(dsn: str, *, settings: str = SETTINGS) -> dict[str, str]:
    """What tells the project where its database is."""
    parts = {"NAME": "dbname", "USER": "user", "HOST": "host", "PORT": "port", "PASSWORD": "password"}
    given = conninfo_to_dict(dsn)
    named = {f"SITE_DB_{name}": str(given.get(key) or "") for name, key in parts.items()}
    return {"DJANGO_SETTINGS_MODULE": settings, "PYTHONPATH": str(ROOT), "PGQUEUE_DSN": dsn, **named}


def django(dsn: str, *words: str, fails: bool = False, env: Mapping[str, str] = {}) -> str:
    """What `django-admin WORDS` says on either stream, with warnings as errors."""
    done = _run(dsn, ["-m", "django", *words], env, stderr=subprocess.STDOUT)
    assert bool(done.returncode) == fails, done.stdout
    return done.stdout


def suite(dsn: str, *names: str, env: Mapping[str, str] = {}) -> None:
    """Run suites of the project by Django's own runner, in a database that this makes."""
    said = django(dsn, "test", *(f"tests.django.website.suites.{name}" for name in names), env=env)
    assert "\nOK" in said and "skipped" not in said and "other session" not in said, said


def script(dsn: str, code: str, *, env: Mapping[str, str] = {}) -> Any:
    """Run Python in the project, and read the JSON that it writes."""
    done = _run(dsn, ["-c", f"import django; django.setup()\n{code}"], env, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _run(dsn: str, words: Sequence[str], env: Mapping[str, str], *, stderr: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False,
        env={**os.environ, **environment(dsn), **env}, timeout=TIMEOUT_S,
    )  # fmt: skip
