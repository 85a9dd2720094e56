"""Jobs in a project's own tests: in Django's transaction, in the test database, and never in the real one."""

import psycopg
import pytest

from tests.django.site import Site

TESTS = """
    import threading

    from asgiref.sync import sync_to_async
    from django.db import connection, transaction
    from django.test import SimpleTestCase, TestCase, TransactionTestCase

    import pgqueue
    from pgqueue import app
    from shop.tasks import ship


    def committed() -> int:
        import psycopg

        with psycopg.connect(app.dsn) as conn:
            return conn.execute("select count(*) from pgqueue.job").fetchone()[0]


    class InATestCase(TestCase):
        def test_a_job_is_in_the_transaction(self):
            job = ship.defer("tea")
            self.assertEqual(job.snapshot().state, "queued")
            self.assertEqual(committed(), 0)

        def test_one_query(self):
            ship.defer("tea")
            with self.assertNumQueries(1):
                ship.defer("tea")
            with self.captureOnCommitCallbacks() as callbacks:
                ship.defer("tea")
            self.assertEqual(callbacks, [])

        def test_a_savepoint(self):
            with self.assertRaises(KeyError), transaction.atomic():
                job = ship.defer("tea")
                raise KeyError
            with self.assertRaises(pgqueue.JobNotFound):
                job.snapshot()
            with transaction.atomic():
                self.assertEqual(len(ship.defer_many([("a",), ("b",)])), 2)
            self.assertEqual(connection.queries_log.maxlen, 9000)

        async def test_async_by_the_sync_way(self):
            job = await sync_to_async(ship.defer)("tea")
            self.assertEqual(committed(), 0)
            await sync_to_async(job.snapshot)()


    class Committed(TransactionTestCase):
        def test_without_a_transaction_it_is_committed(self):
            ship.defer("tea")
            self.assertEqual(committed(), 1)
            with transaction.atomic():
                ship.defer("tea")
                self.assertEqual(committed(), 1)
            self.assertEqual(committed(), 2)
            with self.assertRaises(KeyError), transaction.atomic():
                ship.defer("tea")
                raise KeyError
            self.assertEqual(committed(), 2)

        def test_in_a_thread(self):
            before = committed()
            thread = threading.Thread(target=lambda: ship.defer("tea"))
            thread.start()
            thread.join()
            self.assertEqual(committed(), before + 1)

        async def test_async(self):
            before = committed()
            await ship.defer_async("tea")
            self.assertEqual(committed(), before + 1)

        def test_waiting_for_a_result_holds_a_session(self):
            with self.assertRaises(pgqueue.ResultTimeout):
                ship.defer("tea").result(timeout=0.1)


    class CommittedToo(TransactionTestCase):
        def test_nothing_is_left_of_the_tests_before(self):
            self.assertEqual(committed(), 0)
            ship.defer("tea")


    class WithoutADatabase(SimpleTestCase):
        def test_a_job_is_refused(self):
            with self.assertRaisesMessage(AssertionError, "Database connections to 'default' are not allowed"):
                ship.defer("tea")

        async def test_an_async_one_too(self):
            with self.assertRaisesMessage(AssertionError, "connections to 'default' are not allowed"):
                await ship.defer_async("tea")
"""


def jobs(dsn: str) -> int:
    with psycopg.connect(dsn) as conn:
        (found,) = conn.execute("select count(*) from pgqueue.job").fetchone() or (0,)
    return int(found)


@pytest.mark.parametrize("words", [[], ["--parallel", "2"]], ids=["alone", "parallel"])
def test_tests_of_a_project(site: Site, words: list[str]) -> None:
    """The runner itself fails where a session is left in the database that it drops or copies."""
    site.write("shop/tests.py", TESTS)
    said = site.manage("test", *words, env={"PGQUEUE_DSN": site.dsn, "DATABASE_URL": site.dsn})
    assert "Ran 11 tests" in said and "other session" not in said, said
    assert jobs(site.dsn) == 0, "the real database is untouched"
    with psycopg.connect(site.dsn) as conn:
        left = "select count(*) from pg_database where datname like 'test_' || current_database() || '%'"
        assert conn.execute(left).fetchone() == (0,)


def test_a_test_database_without_migrations_has_our_tables(site: Site) -> None:
    site.set("DATABASES['default']['TEST'] = {'MIGRATE': False}")
    site.write("shop/tests.py", TESTS)
    said = site.manage("test", "shop.tests.InATestCase")
    assert "Ran 4 tests" in said, said


def test_flush_removes_jobs_too(site: Site) -> None:
    site.program("from shop.tasks import ship\n\nship.defer('tea')")
    site.manage("migrate")
    assert jobs(site.dsn) == 1
    site.manage("flush", "--no-input")
    assert jobs(site.dsn) == 0


def test_a_job_that_a_migration_defers_holds_no_session(site: Site) -> None:
    """The test database is copied for each parallel process while nobody else is connected."""
    site.write(
        "shop/migrations/0002_jobs.py",
        """
        from django.db import migrations


        def defer(apps, schema_editor):
            from shop.tasks import ship

            ship.defer("tea")


        class Migration(migrations.Migration):
            atomic = False
            dependencies = [("shop", "0001_initial"), ("pgqueue", "0004_kill")]
            operations = [migrations.RunPython(defer)]
        """,
    )
    site.write("shop/tests.py", TESTS.replace("committed(), 0)", "committed(), 1)"))
    said = site.manage("test", "--parallel", "2", "shop.tests.InATestCase", "shop.tests.WithoutADatabase")
    assert "Ran 6 tests" in said and "other session" not in said, said
