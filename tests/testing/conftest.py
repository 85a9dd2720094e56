"""The app of the kit's own tests, on this process's database."""

from collections.abc import Iterator

import psycopg
import pytest

from pgqueue import App
from pgqueue.testing.subject import under_test
from tests.testing import tasks


@pytest.fixture
def app(dsn: str, conn: psycopg.Connection) -> Iterator[App]:
    conn.execute("drop table if exists written")
    conn.execute("create table written (text text)")
    with under_test(tasks.app, dsn):
        yield tasks.app
