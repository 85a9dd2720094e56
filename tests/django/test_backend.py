"""Django's Tasks where they are enqueued: the suite runs in the project, and `manage.py check` in variants of it."""

import json

from tests.django.projects import django, suite

BACKEND = "pgqueue.contrib.django.Backend"


def test_the_suite_of_the_backend(server_dsn: str) -> None:
    suite(server_dsn, "backend")


def test_with_server_side_binding(server_dsn: str) -> None:
    suite(server_dsn, "backend.Enqueue", "backend.Results", env={"SITE_BINDING": "server"})


def test_check_reaches_the_backend_and_a_database_that_is_named(fresh_dsn: str) -> None:
    assert "no issues" in django(fresh_dsn, "check")
    tasks = {
        "default": {"BACKEND": BACKEND, "OPTIONS": {"MAX_ATTEMPT": 3}},
        "other": {"BACKEND": BACKEND, "QUEUES": [" x"]},
    }
    said = django(fresh_dsn, "check", "--database", "default", fails=True, env={"SITE_TASKS": json.dumps(tasks)})
    assert (
        "(pgqueue.E101) TASKS['default']: OPTIONS has 'MAX_ATTEMPT'" in said and "(pgqueue.E102) TASKS['other']" in said
    )
    assert "(pgqueue.W002) the schema 'pgqueue' has no pgqueue tables" in said and "`manage.py migrate` does it" in said
    django(fresh_dsn, "migrate", "-v", "0")
    assert "no issues" in django(fresh_dsn, "check", "--database", "default")
