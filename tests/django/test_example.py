"""examples/django_app, from an empty database to a thank you."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgqueue import App
from tests.conftest import PATIENCE_S, Worker
from tests.django.site import IMPORTED
from tests.shell import ROOT, Shell

MANAGE = ROOT / "examples/django_app/manage.py"
ORDER = """
import django

django.setup()

from django.test import Client

print(Client().post("/orders", {"item": "tea", "quantity": "2", "name": "Ada"}).json()["job"])
"""


def test_the_example(fresh_dsn: str, shell: Shell, start_worker: Callable[..., Worker], tmp_path: Path) -> None:
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGPASSWORD": "password", "PGDATABASE": "dbname"}
    parts = conninfo_to_dict(fresh_dsn)
    place = {variable: str(parts[name]) for variable, name in names.items() if parts.get(name)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PGQUEUE_")}
    env = {**kept, **place, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "examples.django_app.settings"}

    def run(script: Path, *words: str) -> str:
        done = shell.run(*words, script=str(script), imported=IMPORTED, options=("-W", "error"), cwd=ROOT, env=env)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, said
        return said

    assert "No changes detected" in run(MANAGE, "makemigrations", "--check", "--dry-run")
    run(MANAGE, "migrate")
    assert "Ran 3 tests" in run(MANAGE, "test", "examples.django_app")
    order = tmp_path / "order.py"
    order.write_text(ORDER)
    job_id = run(order).split()[-1]
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "examples.django_app.manage",
        "pgqueue",
        "worker",
        "-c",
        "2",
        "--burst",
    ]
    worker = start_worker(command=command, env=env, dsn="")
    assert worker.wait() == 0 and "Traceback" not in worker.output, worker.output
    app = App(fresh_dsn)
    assert app.result(job_id, timeout_s=PATIENCE_S) == "2 x tea are on their way"
    app.close()
    with psycopg.connect(fresh_dsn) as conn:
        results = "select result from pgqueue.jobs order by task"
        assert [result for (result,) in conn.execute(results)] == [
            '"2 x tea are on their way"',
            '"thank you for the tea, Ada"',
        ]
