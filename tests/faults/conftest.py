"""Each fault test has a server of its own, so that it may be stopped, frozen or killed; `dsn` and all that stands on it
(conn, app, task_app, start_worker) lead there.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue import App

HERE = Path(__file__).parent
Figure = Callable[..., None]

STRICT = bool(os.environ.get("PGQUEUE_STRICT_FIGURES"))
# Beside other tests on a small machine a process may wait for its turn; only what is far off is wrong then.
NOISE = 1 if STRICT else 3


@pytest.hookimpl(tryfirst=True)  # before they are chosen by their marks
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Those that are not slow are long: each makes a server."""
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.long)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A running server of this test's own."""
    with Cluster() as made:
        yield made


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """A network between this test and its server."""
    with Proxy(cluster.port) as made:
        yield made


@pytest.fixture
def dsn(cluster: Cluster) -> str:
    """A migrated database on the test's own server."""
    with cluster.connect() as conn:
        conn.execute("create database shop")
    own = App(cluster.dsn("shop"))
    own.migrate()
    own.close()
    return cluster.dsn("shop")


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Record a figure for the summary and hold it against its bound: `figure("re-claimed", 3.4, "s", at_most=5)`.

    Beside other tests a bound may be missed by a factor, which the summary shows; `make test-faults` allows none.
    """

    def record(
        what: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        bound = "" if at_most is None and at_least is None else f" ({'<=' if at_most is not None else '>='} "
        bound += f"{at_most if at_most is not None else at_least:g})" if bound else ""
        missed = (at_most is not None and value > at_most) or (at_least is not None and value < at_least)
        text = f"{what} {value:.3g} {unit}{bound}{' MISSED' if missed else ''}"
        record_property("figure", text)
        assert at_most is None or value <= at_most * (NOISE if at_most else 1), text
        assert at_least is None or value >= at_least / NOISE, text

    return record
