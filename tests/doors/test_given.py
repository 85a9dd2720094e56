"""What type checkers accept as `conn=`: each connection of each library, and nothing that has no transaction."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from pgqueue.client.options import Given, Options
from tests.shell import ROOT
from tests.test_types import mypy

SITE = Path(pytest.__file__).parents[1]

GIVEN = """
import asyncpg  # type: ignore[import-untyped]
import asyncpg.pool  # type: ignore[import-untyped]
import psycopg
import psycopg2  # type: ignore[import-untyped]
import sqlalchemy as sa
import sqlmodel
import sqlmodel.ext.asyncio.session
from django.db import connection, connections
from flask_sqlalchemy import SQLAlchemy
from psycopg_pool import AsyncConnectionPool, ConnectionPool
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pgqueue import App, CallerConnection, task

app = App()
flask = SQLAlchemy()


@task
def send(to: str) -> None: ...


def given(conn: CallerConnection) -> None:
    with app.using(conn):
        send.options(conn=conn, priority=5).defer("a@b.c")
        app.enqueue("t", conn=conn)


def sync(
    own: psycopg.Connection,
    dicts: psycopg.Connection[dict[str, int]],
    pool: ConnectionPool,
    session: Session,
    core: sa.Connection,
    scoped: scoped_session[Session],
    model: sqlmodel.Session,
) -> None:
    given(own)
    given(dicts)
    given(session)
    given(core)
    given(scoped)
    given(model)
    given(flask.session)
    given(psycopg2.connect(""))
    given(connection)
    given(connections["other"])
    with pool.connection() as lent:
        given(lent)


async def later(
    own: psycopg.AsyncConnection,
    pool: AsyncConnectionPool,
    session: AsyncSession,
    core: AsyncConnection,
    scoped: async_scoped_session[AsyncSession],
    model: sqlmodel.ext.asyncio.session.AsyncSession,
    bare: asyncpg.Connection,
    proxy: asyncpg.pool.PoolConnectionProxy,
) -> None:
    given(own)
    given(session)
    given(core)
    given(scoped)
    given(model)
    given(bare)
    given(proxy)
    async with pool.connection() as lent:
        given(lent)


def wrong(
    engine: sa.Engine, later: AsyncEngine, maker: sessionmaker[Session], pool: ConnectionPool, other: asyncpg.Pool
) -> None:
    given(5)  # error: arg-type reportArgumentType
    given("dbname=shop")  # error: arg-type reportArgumentType
    given(engine)  # error: arg-type reportArgumentType
    given(later)  # error: arg-type reportArgumentType
    given(maker)  # error: arg-type reportArgumentType
    given(pool)  # error: arg-type reportArgumentType
    given(other)  # error: - reportArgumentType
    app.using(5)  # error: arg-type reportArgumentType
    send.options(conn=engine)  # error: arg-type reportArgumentType
    send.options(priority="high")  # error: arg-type reportArgumentType
    send.options(prioty=5)  # error: call-arg reportCallIssue
    app.enqueue("t", conn=engine)  # error: arg-type reportArgumentType
"""

UNTYPED = """
from django.db import connection, connections
from pgqueue import App, task

@task
def send(to: str) -> None: ...

send.options(conn=connection).defer("a@b.c")
send.options(conn=connections["other"]).defer("a@b.c")  # error: - reportUnknownArgumentType: Django's own
with App().using(connection):
    send.defer("a@b.c")
send.options(conn=5)  # error: - reportArgumentType
"""


def expected(source: str, *, checker: int) -> list[tuple[int, str]]:
    """The errors that the source's own comments name: mypy's code (0) and pyright's rule (1); a dash is none."""
    found = []
    for number, line in enumerate(source.splitlines(), start=1):
        if "# error: " in line:
            found.append((number, line.partition("# error: ")[2].split()[checker].strip(":")))
    return [(number, name) for number, name in found if name != "-"]


def pyright(folder: Path, source: str, *, environment: Path = Path(sys.prefix)) -> list[tuple[int, str]]:
    """The errors that it finds in a source: line and rule."""
    (folder / "shop.py").write_text(source)
    settings = {
        "typeCheckingMode": "strict", "reportMissingTypeStubs": False, "include": ["shop.py"], "extraPaths": [str(ROOT)],
        "venvPath": str(environment.parent), "venv": environment.name,
    }  # fmt: skip
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    ran = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "-p", "pyrightconfig.json"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return [
        (found["range"]["start"]["line"] + 1, found["rule"])
        for found in json.loads(ran.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    ]


def test_mypy_knows_what_conn_takes(tmp_path: Path) -> None:
    assert mypy(tmp_path / "shop.py", GIVEN) == expected(GIVEN, checker=0)


def test_pyright_knows_what_conn_takes(tmp_path: Path) -> None:
    assert pyright(tmp_path, GIVEN) == expected(GIVEN, checker=1)


def test_nobody_needs_the_types_of_what_is_not_installed(tmp_path: Path) -> None:
    """Here are Django without stubs, and neither SQLAlchemy nor asyncpg: no part of our types is unknown."""
    packages = tmp_path / "bare" / SITE.relative_to(sys.prefix)
    packages.mkdir(parents=True)
    for name in ("django", "psycopg", "psycopg_pool", "tenacity", "typer"):
        (packages / name).symlink_to(SITE / name)
    assert pyright(tmp_path, UNTYPED, environment=tmp_path / "bare") == expected(UNTYPED, checker=1)


def test_checkers_are_told_of_every_option() -> None:
    assert get_type_hints(Given) == get_type_hints(Options)
