"""A project of Django for each test."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.django.site import Site
from tests.shell import Shell


@pytest.fixture
def bare_site(tmp_path: Path, fresh_dsn: str, shell: Shell) -> Site:
    """With an empty database."""
    return Site(tmp_path, fresh_dsn, shell)


@pytest.fixture(scope="session")
def migrated(server_dsn: str, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database with all tables of a project, to be copied."""
    name = f"pgqueue_django_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        Site(tmp_path_factory.mktemp("migrated"), make_conninfo(server_dsn, dbname=name), shell).manage("migrate")
        yield name
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def site(tmp_path: Path, server_dsn: str, shell: Shell, migrated: str) -> Iterator[Site]:
    """With all tables."""
    name = f"pgqueue_site_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name} template {migrated}")
        yield Site(tmp_path, make_conninfo(server_dsn, dbname=name), shell)
        admin.execute(f"drop database {name} with (force)")
