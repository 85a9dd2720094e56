"""`manage.py pgqueue ...` is `pgqueue ...`, with the project's settings, database and tasks."""

import re
from collections.abc import Callable

import psycopg
import pytest

from pgqueue import App
from tests.conftest import Worker
from tests.django.site import Site


def test_a_job_of_a_project_runs_and_its_commands_know_it(
    site: Site, start_worker: Callable[..., Worker], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Started in another folder: what manage.py can import a child can, also from folders that it has put on its path."""
    manage = (site.folder / "manage.py").read_text()
    site.write("manage.py", f"import sys\n\nsys.path.append({str(site.folder / 'apps')!r})\n{manage}")
    site.write("apps/more/__init__.py", "")
    site.write("others/others/__init__.py", "")
    ids = site.program("""
        from shop.tasks import ship, ship_async

        print(ship.defer("tea").id, ship_async.defer("cups").id)
    """)
    site.set("INSTALLED_APPS += ['more', 'others']")
    worker = start_worker(
        "-c", "2", "--burst", "--pythonpath", str(site.folder / "others"), cwd=tmp_path_factory.mktemp("elsewhere"),
        command=site.command("manage.py", "pgqueue", "worker"), env=site.environment(), dsn="",
    )  # fmt: skip
    assert worker.wait() == 0, worker.output
    assert "shop.tasks.ship" in worker.said("tasks") and "Traceback" not in worker.output
    with psycopg.connect(site.dsn) as conn:
        assert conn.execute("select item from shop_order order by 1").fetchall() == [("cups",), ("tea",)]
    site.set("INSTALLED_APPS.remove('others')")
    said = site.manage("pgqueue", "jobs", "--settings", "site1.settings", "--state", "succeeded")
    assert said.count("succeeded") == 2
    assert "shop.tasks.ship_async" in site.manage("pgqueue", "tasks")
    assert "succeeded" in site.manage("pgqueue", "show", ids.split()[0], "-v", "2")


def test_the_supervisor_imports_nothing_of_the_project(site: Site, start_worker: Callable[..., Worker]) -> None:
    """It takes the place of manage.py. Its lines and its children's tell the time in one zone, although Django sets another."""
    site.write(
        "shop/tasks.py",
        """
        import logging
        import os
        from pathlib import Path

        from pgqueue import task


        @task
        def look() -> list[str]:
            logging.getLogger("shop").warning("looking")
            return Path(f"/proc/{os.getppid()}/cmdline").read_text().split(chr(0))
        """,
    )
    site.program("from shop.tasks import look\n\nlook.defer()")
    command = site.command("manage.py", "pgqueue", "worker", "-c", "1", "--burst", "-l", "debug")
    worker = start_worker(command=command, env=site.environment(), cwd=site.folder, dsn="")
    assert worker.wait() == 0, worker.output
    with psycopg.connect(site.dsn) as conn:
        (result,) = conn.execute("select result from pgqueue.jobs").fetchone() or ("",)
    assert "manage.py" not in result and '"-m","pgqueue","worker"' in result
    hours = {line[:13] for line in worker.lines if re.match(r"20\d\d-", line)}
    assert len(hours) in (1, 2) and worker.said("looking")[:13] in hours, worker.output


def test_help_is_that_of_the_queue(site: Site) -> None:
    for words in (["help", "pgqueue"], ["pgqueue", "--help"]):
        said = site.manage(*words)
        assert "Usage: manage.py pgqueue [OPTIONS] COMMAND" in said and "worker" in said and "doctor" in said
    assert "--concurrency" in site.manage("pgqueue", "worker", "--help")
    assert "\n    pgqueue\n" in site.manage("help")


def test_exit_codes_and_errors_are_those_of_the_queue(bare_site: Site) -> None:
    assert "No such command 'stat'" in bare_site.manage("pgqueue", "stat", fails=True)
    said = bare_site.manage("pgqueue", "jobs", fails=True)
    assert said == "pgqueue: the schema 'pgqueue' has no pgqueue tables: run `pgqueue migrate`\n"
    assert "Traceback" in bare_site.manage("pgqueue", "--debug", "jobs", fails=True)


def test_the_environment_does_not_name_the_database(site: Site, dsn: str) -> None:
    """Nor does it name another module of tasks."""
    other = {"PGQUEUE_DSN": dsn, "DATABASE_URL": dsn, "PGQUEUE_APP": "nowhere"}
    app = App(site.dsn)
    job = app.enqueue("shop.tasks.ship", ["tea"])
    assert job.id in site.manage("pgqueue", "jobs", env=other)
    assert "shop.tasks.ship" in site.manage("pgqueue", "tasks", env=other)
    app.close()


def test_call_command(site: Site) -> None:
    said = site.program("""
        from django.core.management import call_command

        call_command("pgqueue", "stats", "--once")
        try:
            call_command("pgqueue", "show", "0" * 32)
        except SystemExit as error:
            print("ended with", error.code)
    """)
    assert "no jobs yet" in said and "ended with 1" in said


def test_a_project_without_tasks_is_told_where_they_go(site: Site) -> None:
    (site.folder / "shop/tasks.py").unlink()
    assert "write @task in its tasks.py" in site.manage("pgqueue", "tasks", fails=True)


def test_what_a_module_of_tasks_raises_is_shown(site: Site, start_worker: Callable[..., Worker]) -> None:
    site.write("shop/tasks.py", "import shop.nothing\n")
    command = site.command("manage.py", "pgqueue", "worker", "-c", "1")
    worker = start_worker(command=command, env=site.environment(), cwd=site.folder, dsn="")
    assert worker.wait() == 2 and "No module named 'shop.nothing'" in worker.output
