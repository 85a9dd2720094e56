"""The pytest plugin as a user meets it: another pytest, in a project of its own."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import psycopg
import pytest

from tests.answers import one_value
from tests.shell import ROOT

Project = Callable[..., str]

SHOP = """
from pgqueue import task

@task
def add(a: int, b: int) -> int:
    return a + b
"""


@pytest.fixture
def project(tmp_path: Path, server_dsn: str) -> Project:
    """Write these files, run pytest there, and return what it says. Expects that it passes, unless `code` says otherwise."""

    def run(*options: str, code: int = 0, ini: str = "pgqueue_app = shop", **files: str) -> str:
        for name, text in {"shop": SHOP, **files}.items():
            (tmp_path / f"{name}.py").write_text(text)
        (tmp_path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *options], cwd=tmp_path,
            env={**os.environ, "PGQUEUE_TEST_DSN": server_dsn, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
            timeout=120,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_each_process_has_an_empty_database_of_its_own(project: Project, server_dsn: str, tmp_path: Path) -> None:
    project("-n", "2", test_shop="""
import pytest
import shop
from pathlib import Path
from pgqueue.testing import drain

@pytest.mark.parametrize("number", range(6))
def test_add(pgqueue_app, pgqueue_db, number, worker_id):
    assert pgqueue_app is shop.add.app
    (Path(__file__).parent / worker_id).write_text(pgqueue_db)
    assert pgqueue_app.jobs() == []
    shop.add.defer(number, 1)
    assert [ran.result for ran in drain()] == [number + 1]
""")  # fmt: skip
    databases = {(tmp_path / worker).read_text() for worker in ("gw0", "gw1")}
    assert len(databases) == 2
    with psycopg.connect(server_dsn) as conn:
        for dsn in databases:
            name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
            assert not one_value(conn, "select count(*) from pg_database where datname = %s", [name])


@pytest.mark.long
def test_a_database_whose_process_was_killed_is_dropped_by_the_next(project: Project, server_dsn: str) -> None:
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute("create database pgqueue_kit_left_behind")
        project(test_shop="def test_it(pgqueue_db): pass")
        left = "select count(*) from pg_database where datname = 'pgqueue_kit_left_behind'"
        assert not one_value(conn, left)


def test_an_app_may_be_made_by_the_project(project: Project) -> None:
    project(
        ini="",
        conftest="""
import psycopg
import pytest
from pgqueue import App

app = App("postgresql://nobody@nowhere.invalid/production")

@app.task
def double(a: int) -> int:
    return 2 * a

@pytest.fixture(scope="session")
def pgqueue_target():
    return app

@pytest.fixture(scope="session")
def pgqueue_prepare():
    def prepare(dsn):
        with psycopg.connect(dsn) as conn:
            conn.execute("create table account (id int)")
    return prepare
""",
        test_shop="""
import psycopg
from conftest import double
from pgqueue.testing import drain

def test_double(pgqueue_app, pgqueue_db):
    double.defer(21)
    assert drain()[0].result == 42
    with psycopg.connect(pgqueue_db) as conn:
        assert conn.execute("select count(*) from account").fetchone() == (0,)
""",
    )


def test_the_plugin_imports_no_package() -> None:
    code = "import sys, pgqueue_pytest; sys.exit('pgqueue' in sys.modules or 'psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.long
def test_nothing_is_imported_before_it_is_used(project: Project) -> None:
    project(test_shop="""
import sys

def test_it():
    assert "pgqueue_pytest" in sys.modules
    assert not [name for name in sys.modules if name.partition(".")[0] in ("pgqueue", "psycopg")]
""")  # fmt: skip


def test_the_package_imports_no_kit() -> None:
    code = "import sys, pgqueue; sys.exit(any(name in sys.modules for name in ('pytest', 'pgqueue.testing', 'pgqueue_pytest')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_pytest_finds_it_by_its_entry_point() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert hasattr(import_module(told["entry-points"]["pytest11"]["pgqueue"]), "pytest_addoption")
    assert not [each for each in told["dependencies"] if each.startswith("pytest")]
