"""The pytest plugin of pgqueue: fixtures on a real PostgreSQL. See `pgqueue guide testing`.

It is installed outside of the package: pytest imports every plugin that there is, and pgqueue is to be imported where a fixture is
used only.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pgqueue import App
    from pgqueue.testing import Clock, WorkerProcess
    from pgqueue.testing.databases import Cleaner


def pytest_addoption(parser: pytest.Parser) -> None:
    """The setting in pytest.ini or [tool.pytest.ini_options]."""
    parser.addini("pgqueue_app", "the App under test, as `pgqueue worker -A` takes it: module or module:attribute")


@pytest.fixture(scope="session")
def pgqueue_target(pytestconfig: pytest.Config) -> "App":
    """The App under test: the one that the setting pgqueue_app names, else the default one. Override it for an app factory."""
    import pgqueue
    from pgqueue.loader import load_app

    spec = pytestconfig.getini("pgqueue_app")
    return load_app(spec) if spec else pgqueue.app


@pytest.fixture(scope="session")
def pgqueue_prepare() -> Callable[[str], object] | None:
    """A function of a DSN that makes your own tables in a fresh test database. Override it to have some."""
    return None


@pytest.fixture(scope="session")
def pgqueue_dsn(pgqueue_target: "App", pgqueue_prepare: Callable[[str], object] | None) -> Iterator[str]:
    """The database of this test process. Override it to use one of your own: its jobs are deleted before each test."""
    from pgqueue.testing.databases import clone

    with clone(pgqueue_target.config) as dsn:
        if pgqueue_prepare is not None:
            pgqueue_prepare(dsn)
        yield dsn


@pytest.fixture(scope="session")
def _pgqueue_cleaner(pgqueue_target: "App", pgqueue_dsn: str) -> Iterator["Cleaner"]:
    """The App under test is at the test database from now on, and so is what reads PGQUEUE_DSN."""
    from pgqueue.testing.databases import Cleaner
    from pgqueue.testing.kept import close_kept
    from pgqueue.testing.loop import job_loop
    from pgqueue.testing.subject import under_test

    with pytest.MonkeyPatch.context() as patch, under_test(pgqueue_target, pgqueue_dsn):
        patch.setenv("PGQUEUE_DSN", pgqueue_dsn)
        pgqueue_target.migrate()
        cleaner = Cleaner(pgqueue_dsn, pgqueue_target.config)
        yield cleaner
        cleaner.close()
        job_loop.close()
        close_kept()


@pytest.fixture
def pgqueue_db(_pgqueue_cleaner: "Cleaner", pgqueue_dsn: str) -> str:
    """The DSN of a database without jobs."""
    _pgqueue_cleaner.clean()
    return pgqueue_dsn


@pytest.fixture
def pgqueue_app(pgqueue_db: str, pgqueue_target: "App") -> "App":
    """The App under test, on a database without jobs."""
    return pgqueue_target


@pytest.fixture
def pgqueue_clock(pgqueue_app: "App") -> "Clock":
    """Time that passes when the test says so: pgqueue_clock.advance(3600)."""
    from pgqueue.testing import Clock

    return Clock(app=pgqueue_app)


@pytest.fixture
def pgqueue_worker(pgqueue_app: "App", pytestconfig: pytest.Config) -> Iterator[Callable[..., "WorkerProcess"]]:
    """Start a real worker: pgqueue_worker("-c", "2", fault=child_killed()); it is stopped at the end of the test."""
    from pgqueue.testing import WorkerProcess

    started: list[WorkerProcess] = []

    def start(*options: str, fault: Any = None, spec: str | None = None) -> WorkerProcess:
        spec = spec or pytestconfig.getini("pgqueue_app") or None
        started.append(WorkerProcess(pgqueue_app, *options, fault=fault, spec=spec))
        return started[-1].ready()

    yield start
    for worker in started:
        worker.stop()
