"""Every version of Django that is maintained: migrations, commands, a worker, and tests by Django's runner and by pytest-django.

Each has an environment of its own beside those of the benchmarks, made when it is first needed.
"""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from benchmarks.peers.environment import Python
from tests.conftest import Worker
from tests.django.site import Site
from tests.django.test_testcase import TESTS, jobs

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("django")]

COMMON = (
    "psycopg[binary]==3.3.9", "psycopg-pool==3.3.3", "typer==0.29.2", "tenacity==9.2.1", "cronsim==2.8",
    "pytest==9.2.0", "pytest-django==4.14.0",
)  # fmt: skip
VERSIONS = {"5.2.19": (3, 11), "6.0.10": (3, 12), "6.1.3": (3, 12)}

BY_PYTEST = """
    import pytest

    import pgqueue
    from shop.tasks import ship


    @pytest.mark.django_db
    def test_in_the_transaction(django_assert_num_queries):
        job = ship.defer("tea")
        assert job.snapshot().state == "queued"
        with django_assert_num_queries(1):
            ship.defer("tea")


    @pytest.mark.django_db(transaction=True)
    def test_committed():
        assert list(pgqueue.app.jobs()) == []
        ship.defer("tea")


    @pytest.mark.django_db(transaction=True)
    def test_nothing_is_left():
        assert list(pgqueue.app.jobs()) == []
        ship.defer("tea")


    def test_without_the_mark():
        with pytest.raises(RuntimeError, match="Database access not allowed"):
            ship.defer("tea")
"""


@pytest.fixture(params=VERSIONS)
def site(request: pytest.FixtureRequest, tmp_path: Path, fresh_dsn: str) -> Site:
    """A project on this version, with all tables."""
    environment = Python(f"django-{request.param}", (f"django=={request.param}", *COMMON), VERSIONS[request.param])
    try:
        environment.install()
    except RuntimeError as error:
        if "needs Python" not in str(error):
            raise
        pytest.skip(f"Django {request.param}: {error}")
    made = Site(tmp_path, fresh_dsn, None, python=environment.interpreter)
    made.manage("migrate", "--check", fails=True)
    made.manage("migrate")
    return made


def test_a_project(site: Site, start_worker: Callable[..., Worker]) -> None:
    site.manage("migrate", "--check")
    assert "No changes detected" in site.manage("makemigrations", "--check", "--dry-run")
    site.manage("check", "--database", "default")
    site.program("from shop.tasks import ship, ship_async\n\nship.defer('tea')\nship_async.defer('cups')")
    command = site.command("manage.py", "pgqueue", "worker", "-c", "2", "--burst")
    worker = start_worker(command=command, env=site.environment(), cwd=site.folder, dsn="")
    assert worker.wait() == 0 and "Traceback" not in worker.output, worker.output
    with psycopg.connect(site.dsn) as conn:
        assert conn.execute("select item from shop_order order by 1").fetchall() == [("cups",), ("tea",)]
    assert site.manage("pgqueue", "jobs").count("succeeded") == 2
    assert "Usage: manage.py pgqueue [OPTIONS] COMMAND" in site.manage("help", "pgqueue")


def test_its_tests(site: Site) -> None:
    site.write("shop/tests.py", TESTS)
    for words in [], ["--parallel", "2"]:
        said = site.manage("test", *words)
        assert "Ran 11 tests" in said and "other session" not in said, said
    site.write("shop/test_pytest.py", BY_PYTEST)
    for options in [], ["--no-migrations"]:
        done = site.python_run(
            "-m", "pytest", "-p", "no:cacheprovider", "--ds=site1.settings", "shop/test_pytest.py", "-W", "error", *options
        )  # fmt: skip
        assert done.returncode == 0 and b"4 passed" in done.stdout, done.stdout.decode()
        assert b"other session" not in done.stdout + done.stderr
    assert jobs(site.dsn) == 0
