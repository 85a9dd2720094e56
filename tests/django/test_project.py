"""What a project's settings say to pgqueue, and what is said of settings that cannot be used."""

import json
from typing import Any

import pytest

from tests.django.site import Site, database

LOOK = """
    import json

    import pgqueue

    print(json.dumps({{"dsn": pgqueue.app.dsn, **{{name: getattr(pgqueue.app.config, name) for name in {names}}}}}))
"""


def look(site: Site, *names: str) -> Any:
    return json.loads(site.program(LOOK.format(names=names)))


def test_pgqueue_sets_what_app_takes(bare_site: Site) -> None:
    bare_site.set("PGQUEUE = {'SCHEMA': 'work', 'POOL_SIZE': 3, 'KEEP_DEAD_DAYS': 5}")
    found = look(bare_site, "schema", "pool_size", "keep_dead_days", "notify")
    assert (found["schema"], found["pool_size"], found["keep_dead_days"], found["notify"]) == ("work", 3, 5, "idle")


def test_the_address_has_what_django_connects_with(bare_site: Site) -> None:
    given = {
        "ENGINE": "django.db.backends.postgresql", "NAME": "a b", "USER": "u", "PASSWORD": "p'w", "HOST": "h", "PORT": "1",
        "OPTIONS": {
            "sslmode": "require", "passfile": "/x", "options": "-cwork_mem=8MB", "connect_timeout": 4, "pool": True,
            "isolation_level": 2, "server_side_binding": True, "prepare_threshold": 5, "assume_role": "the owner",
        },
    }  # fmt: skip
    bare_site.set(f"DATABASES = {{'default': {given}}}")
    assert look(bare_site)["dsn"] == (
        "dbname='a b' sslmode=require passfile=/x options='-cwork_mem=8MB -crole=the\\\\ owner' connect_timeout=4 "
        "client_encoding=UTF8 user=u password=p\\'w host=h port=1"
    )


def test_a_service_names_the_database(bare_site: Site) -> None:
    bare_site.set(
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'OPTIONS': {'service': 'shop'}}}"
    )
    assert look(bare_site)["dsn"] == "service=shop client_encoding=UTF8"


def test_our_sessions_have_the_role_that_django_assumes(bare_site: Site) -> None:
    bare_site.set(f"DATABASES = {{'default': {database(bare_site.dsn, OPTIONS={'assume_role': 'pg_monitor'})}}}")
    said = bare_site.program("""
        from pgqueue import app, db

        with db.connect(app.dsn) as conn:
            print(conn.execute("select current_user").fetchone())
    """)
    assert said == "('pg_monitor',)\n"


@pytest.mark.parametrize("tasks, expected", [
    ({"default": {"BACKEND": "pgqueue.contrib.django.Backend", "OPTIONS": {"DATABASE": "jobs"}}}, "jobs"),
    ({"default": {"BACKEND": "pgqueue.contrib.django.Backend"}}, "default"),
    ({"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend", "OPTIONS": {"DATABASE": "jobs"}}}, "default"),
])  # fmt: skip
def test_tasks_may_name_the_database(bare_site: Site, tasks: dict[str, Any], expected: str) -> None:
    bare_site.set(f"TASKS = {tasks}\nDATABASES['jobs'] = DATABASES['default'] | {{'NAME': 'jobs'}}")
    assert ("dbname=jobs " in look(bare_site)["dsn"]) == (expected == "jobs")


WRONG = [
    (
        "PGQUEUE = {'SHEMA': 'x'}",
        "PGQUEUE in Django's settings sets 'SHEMA', which is not a setting of pgqueue; did you mean 'SCHEMA'?",
    ),
    ("PGQUEUE = {'DSN': 'x'}", "PGQUEUE in Django's settings sets 'DSN', which is not a setting of pgqueue; there are "),
    ("PGQUEUE = []", "PGQUEUE must be a dict, as {'DATABASE': 'default'}, not a list"),
    ("PGQUEUE = {'DATABASE': 'nix'}", "the jobs' database is 'nix', by PGQUEUE or TASKS, and DATABASES has default"),
    (
        "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3'}}",
        "the Django database 'default' is sqlite, and jobs live in PostgreSQL: name another one of DATABASES",
    ),
    (
        "PGQUEUE = {'DATABASE': 'default'}\nTASKS = {'default': {'BACKEND': 'pgqueue.contrib.django.Backend', 'OPTIONS': "
        "{'DATABASE': 'other'}}}",
        "PGQUEUE and TASKS name several databases for jobs, default and other, and a worker serves one",
    ),
    ("DATABASES['default']['NAME'] = ''", "the Django database 'default' cannot be used: "),
    ("PGQUEUE = {'POOL_SIZE': 0}", "pool_size must be a whole number of at least 1, not 0"),
]  # fmt: skip


@pytest.mark.parametrize("settings, line", WRONG)
def test_what_cannot_be_used_is_said_by_check_and_by_commands(bare_site: Site, settings: str, line: str) -> None:
    bare_site.set(settings)
    said = bare_site.manage("pgqueue", "jobs", fails=True)
    assert said.startswith(f"pgqueue: {line}") and said.count("\n") == 1
    checked = bare_site.manage("check", "--database", "default", fails=True)
    assert f"(pgqueue.E001) {line}" in checked.replace("\n\tHINT", "")


def test_another_engine_on_postgresql(bare_site: Site) -> None:
    """PostGIS needs system libraries; that its engine is one of PostgreSQL is all that we look at."""
    bare_site.write("gis/__init__.py", "")
    bare_site.write("gis/base.py", "from django.db.backends.postgresql.base import DatabaseWrapper\n")
    bare_site.set("DATABASES['default']['ENGINE'] = 'gis'")
    bare_site.manage("migrate")
    assert bare_site.program("from shop.tasks import ship\n\nprint(ship.defer('tea').created)") == "True\n"
