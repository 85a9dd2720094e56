"""The kit inside of the frameworks' own ways to undo a test: Django's TestCase, SQLAlchemy's external transaction."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from pgqueue import App
from pgqueue.testing import Clock, assert_deferred, drain, drain_async, run
from tests.answers import one_value
from tests.django.site import Site
from tests.doors.callers import async_engine, engine
from tests.shell import Shell

# -- Django --

DJANGO = """
    from django.db import IntegrityError, connection, transaction
    from django.test import SimpleTestCase, TestCase, TransactionTestCase
    from django.test.testcases import DatabaseOperationForbidden
    from django.test.utils import CaptureQueriesContext

    from pgqueue import ConfigError, State, app, task
    from pgqueue.testing import Clock, WorkerProcess, assert_deferred, captured, drain, run
    from shop.models import Order
    from shop.tasks import ship, ship_async


    @task
    def collide() -> None:
        Order.objects.create(pk=1, item="one")
        Order.objects.create(pk=1, item="the other")


    @task
    def durable() -> None:
        with transaction.atomic(durable=True):
            Order.objects.create(item="durable")


    @task(atomic=True)
    def atomic(item: str) -> None:
        Order.objects.create(item=item)


    class InTestCase(TestCase):
        def test_jobs_run_on_the_tests_connection(self):
            with self.assertNumQueries(1):
                job = ship.defer("book")
            ship_async.defer("pen")
            assert_deferred(ship, "book")
            first, second = drain()
            self.assertEqual(sorted(Order.objects.values_list("item", flat=True)), ["book", "pen"])
            self.assertEqual((first.id, first.state, first.result), (job.id, State.SUCCEEDED, Order.objects.get(item="book").pk))
            self.assertTrue(connection.is_usable())

        def test_nothing_is_left_of_another_test(self):
            self.assertEqual(Order.objects.count(), 0)
            self.assertEqual(drain(), [])

        def test_an_error_of_the_database_ends_the_job_alone(self):
            job = collide.defer()
            with self.assertRaises(IntegrityError):
                drain()
            self.assertEqual(Order.objects.count(), 0)
            Clock().advance(60)
            with self.assertRaises(IntegrityError):
                run(job)

        def test_queries_are_counted(self):
            ship.defer("book")
            with CaptureQueriesContext(connection) as queries:
                drain()
            self.assertGreater(len([query for query in queries if "shop_order" in query["sql"]]), 0)

        def test_a_durable_block_is_one(self):
            durable.defer()
            atomic.defer("atomic")
            drain()
            self.assertEqual(Order.objects.count(), 2)

        def test_what_was_deferred_in_vain(self):
            with captured() as jobs:
                ship.defer("book")
            jobs.assert_deferred(ship, "book", _queue="default")
            self.assertEqual(drain(), [])
            with self.assertRaisesRegex(ConfigError, "take a TransactionTestCase"):
                WorkerProcess(app)


    class InSimpleTestCase(SimpleTestCase):
        def test_jobs_of_the_real_database_are_not_run(self):
            for touch in drain, WorkerProcess:
                with self.assertRaises(DatabaseOperationForbidden):
                    touch(app=app)


    class InTransactionTestCase(TransactionTestCase):
        def test_jobs_run_as_in_a_worker(self):
            with transaction.atomic():
                ship.defer("book")
                ship_async.defer("pen")
            self.assertEqual(len(drain()), 2)
            self.assertEqual(Order.objects.count(), 2)
            app.close()

        def test_a_real_worker_works_on_the_test_database(self):
            job = ship.defer("book")
            with WorkerProcess(app):
                self.assertEqual(job.result(timeout=60), Order.objects.get(item="book").pk)
            app.purge(state="succeeded")
            app.close()
"""


def test_a_test_case_of_django(tmp_path: Path, fresh_dsn: str, shell: Shell) -> None:
    site = Site(tmp_path, fresh_dsn, shell)
    site.write("shop/tests.py", DJANGO)
    said = site.manage("test", "-v", "2")
    assert "Ran 9 tests" in said and "\nOK" in said
    with psycopg.connect(fresh_dsn) as conn:
        assert one_value(conn, "select to_regclass('pgqueue.job')") is None


# -- SQLAlchemy --


class Base(sa.orm.DeclarativeBase):
    """Tables of the tests."""


class Written(Base):
    __tablename__ = "ordered"
    text: sa.orm.Mapped[str] = sa.orm.mapped_column(primary_key=True)


shop = App()
new_session: Any = None  # of the test
new_async_session: Any = None


@shop.task
def write(text: str) -> None:
    with new_session() as session, session.begin():
        session.add(Written(text=text))


@shop.task
def write_twice(text: str) -> None:
    for _ in range(2):
        write.function(text)


@shop.task
async def write_later(text: str) -> None:
    async with new_async_session() as session, session.begin():
        session.add(Written(text=text))


def order(session: Session, text: str) -> None:
    """The code under test: it commits."""
    session.add(Written(text=f"ordered {text}"))
    write.options(conn=session).defer(text)
    session.commit()


@pytest.fixture
def _shop(dsn: str, conn: psycopg.Connection) -> Iterator[None]:
    conn.execute("drop table if exists ordered; create table ordered (text text primary key)")
    with shop._database.elsewhere(dsn):
        yield


@pytest.mark.usefixtures("_shop")
@pytest.mark.parametrize("driver", ["psycopg", pytest.param("psycopg2", marks=pytest.mark.long)])
def test_a_session_in_an_external_transaction(
    dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    with engine(dsn, driver).connect() as connection:
        transaction = connection.begin()

        def session() -> Session:
            return Session(bind=connection, join_transaction_mode="create_savepoint")

        monkeypatch.setitem(globals(), "new_session", session)
        with session() as own:
            order(own, "book")
            assert_deferred(write, "book", _conn=own)
            assert len(drain(app=shop, conn=connection)) == 1
            job = write_twice.options(conn=own, delay=60).defer("twice")
            Clock(app=shop, conn=own).advance(60)
            with pytest.raises(sa.exc.IntegrityError):
                run(job, conn=connection)
            own.commit()
            assert sorted(own.scalars(sa.select(Written.text))) == ["book", "ordered book", "twice"]
        transaction.rollback()
    assert one_value(conn, "select (select count(*) from ordered) + (select count(*) from pgqueue.jobs)") == 0


@pytest.mark.usefixtures("_shop")
@pytest.mark.parametrize("driver", ["asyncpg", pytest.param("psycopg", marks=pytest.mark.long)])
def test_an_async_session_too(dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, driver: str) -> None:
    async def test(connection: AsyncConnection) -> None:
        transaction = await connection.begin()

        def session() -> AsyncSession:
            return AsyncSession(bind=connection, join_transaction_mode="create_savepoint")

        monkeypatch.setitem(globals(), "new_async_session", session)
        async with session() as own:
            await write_later.options(conn=own).defer_async("book")
            await own.commit()
            assert len(await drain_async(app=shop, conn=connection)) == 1
            assert list(await own.scalars(sa.select(Written.text))) == ["book"]
        await transaction.rollback()

    async def connected() -> None:
        async with async_engine(dsn, driver).connect() as connection:
            await test(connection)

    asyncio.run(connected())
    assert one_value(conn, "select (select count(*) from ordered) + (select count(*) from pgqueue.jobs)") == 0
