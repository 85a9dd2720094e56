"""Which App the fixtures are for, and what its database has beside the jobs."""

from collections.abc import Callable

import psycopg
import pytest

from examples.tested_app import billing
from pgqueue import App


@pytest.fixture(scope="session")
def pgqueue_target() -> App:
    return billing.app


@pytest.fixture(scope="session")
def pgqueue_prepare() -> Callable[[str], None]:
    def make_tables(dsn: str) -> None:
        with psycopg.connect(dsn) as conn:
            conn.execute(billing.TABLES)

    return make_tables
