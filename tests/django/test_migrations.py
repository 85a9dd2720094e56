"""The schema comes by `manage.py migrate`: one migration of Django for each numbered file, and no harm to what is there."""

import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg

import pgqueue
from pgqueue import App, schema
from pgqueue.contrib.django import migrations
from tests.conftest import eventually
from tests.django.site import Site, database

FILES = sorted((Path(pgqueue.__file__).parent / "sql/migrations").glob("*.sql"))


def test_each_numbered_file_has_its_migration() -> None:
    there = sorted(path.stem for path in Path(migrations.__path__[0]).glob("0*.py"))
    assert there == [path.stem for path in FILES]
    before: list[tuple[str, str]] = []
    for name in there:
        found: Any = import_module(f"{migrations.__name__}.{name}").Migration
        assert [operation.number for operation in found.operations] == [int(name[:4])]
        assert found.dependencies == before and not found.atomic
        before = [("pgqueue", name)]


def version(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        (found,) = conn.execute("select max(version) from pgqueue.migration").fetchone() or (0,)
    return int(found)


def test_migrate_makes_the_schema_and_check_sees_what_is_missing(bare_site: Site) -> None:
    bare_site.manage("migrate", "--check", fails=True)
    bare_site.manage("migrate")
    bare_site.manage("migrate", "--check")
    assert version(bare_site.dsn) == schema.newest()
    with psycopg.connect(bare_site.dsn) as conn:
        (partitions,) = conn.execute(
            "select count(*) from pg_class where relkind = 'r' and relname ~ 'history_succeeded_[0-9]{8}'"
        ).fetchone() or (0,)
    assert partitions == 7, "the days to come have their partitions"
    assert "No changes detected" in bare_site.manage("makemigrations", "--check")
    assert "up to date" in bare_site.manage("pgqueue", "migrate", "--check")


def test_a_schema_that_is_there_is_recognised_and_keeps_its_jobs(bare_site: Site) -> None:
    app = App(bare_site.dsn)
    app.migrate()
    job = app.enqueue("shop.tasks.ship", ["tea"])
    bare_site.manage("migrate")
    bare_site.manage("migrate", "--check")
    assert app.snapshot(job.id).state == "queued"
    app.close()


def test_migrations_continue_where_a_part_of_them_is_there(bare_site: Site) -> None:
    app = App(bare_site.dsn)
    assert app.migrate(up_to=2) == [path.name for path in FILES[:2]]
    assert bare_site.manage("pgqueue", "migrate", "--check", fails=True)
    bare_site.manage("migrate", "pgqueue", FILES[2].stem)
    assert version(bare_site.dsn) == 3
    bare_site.manage("migrate", "pgqueue")
    assert version(bare_site.dsn) == schema.newest()


def test_a_migration_waits_for_who_holds_the_tables(bare_site: Site) -> None:
    App(bare_site.dsn).migrate(up_to=2)
    said: list[str] = []
    with psycopg.connect(bare_site.dsn) as holder, psycopg.connect(bare_site.dsn, autocommit=True) as looker:
        holder.execute("select from pgqueue.job")
        run = threading.Thread(target=lambda: said.append(bare_site.manage("migrate", "pgqueue")))
        run.start()
        waits = "select count(*) from pg_locks where not granted and relation = 'pgqueue.job'::regclass"
        for count in 1, 0, 1:  # it gives way to others, and tries again
            eventually(lambda count=count: looker.execute(waits).fetchone() == (count,), what=f"{count} wait")  # type: ignore[misc]
        holder.commit()
        run.join()
    assert said and version(bare_site.dsn) == schema.newest()


def test_migrations_never_go_back(site: Site) -> None:
    assert "older code works on the newer tables" in site.manage("migrate", "pgqueue", "0002", fails=True)
    site.manage("migrate", "--check")
    assert version(site.dsn) == schema.newest()


def test_sqlmigrate_shows_our_file(bare_site: Site) -> None:
    said = bare_site.manage("sqlmigrate", "pgqueue", FILES[2].stem)
    assert 'alter table "pgqueue".worker add column code text;' in said and "create schema" not in said
    assert 'create schema "pgqueue"' in bare_site.manage("sqlmigrate", "pgqueue", FILES[0].stem)


def test_only_the_jobs_own_database_gets_the_schema(bare_site: Site, server_dsn: str) -> None:
    bare_site.set(f"""
        DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "a.db"}}, "jobs": {database(bare_site.dsn)}}}
        PGQUEUE = {{"DATABASE": "jobs", "SCHEMA": "work"}}
    """)
    bare_site.manage("migrate")
    bare_site.manage("migrate", "--database", "jobs", "pgqueue")
    with psycopg.connect(bare_site.dsn) as conn:
        assert conn.execute("select max(version) from work.migration").fetchone() == (schema.newest(),)
    assert "up to date" in bare_site.manage("pgqueue", "migrate", "--check")
