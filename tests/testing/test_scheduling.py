"""A Clock that a test moves fires schedules: each due time that passes, and none twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from pgqueue import App, PgQueueError, current_job
from pgqueue.testing import Clock, drain
from tests.answers import one_value


@pytest.fixture
def app(dsn: str) -> Iterator[App]:
    """Its schedules are those that a test declares."""
    made = App(dsn)
    yield made
    made.close()


def test_each_night_that_passes_has_its_job(app: App, conn: psycopg.Connection) -> None:
    @app.task(name="nightly", cron="0 3 * * *", tz="Europe/Berlin", jitter=600)
    def nightly() -> str:
        due_at = current_job().due_at
        return "" if due_at is None else due_at.isoformat()

    app.schedule("careless", nightly, every=timedelta(days=1), overlap="allow")
    clock = Clock(app=app)
    clock.advance(1)
    assert one_value(conn, "select count(*) from pgqueue.schedule") == 2 and drain(app=app) == []
    clock.advance(86_400)
    results = [ran.result for ran in drain(app=app)]
    clock.advance(timedelta(days=3))  # of the two nights the first job had not ended: nothing was drained between them
    results += [ran.result for ran in drain(app=app)]
    assert len(results) == 2 * 1 + 1 + 3
    began = datetime.now(UTC)
    assert all(began < datetime.fromisoformat(text) < began + timedelta(days=4, minutes=1) for text in results)
    nights = {text for (text,) in conn.execute("select due_at::text from pgqueue.fired where schedule = 'nightly'")}
    assert len(nights) == 4
    skipped = "select count(*) from pgqueue.fired where skipped like '%had not ended'"
    assert one_value(conn, skipped) == 2


def test_in_a_transaction_nobody_else_sees_them(app: App, dsn: str, conn: psycopg.Connection) -> None:
    app.schedule("hourly", "elsewhere", every=3600, overlap="allow")
    with psycopg.connect(dsn) as own:
        Clock(app=app, conn=own).advance(3 * 3600)
        assert one_value(own, "select count(*) from pgqueue.job") == 3
        own.rollback()
    assert one_value(conn, "select count(*) from pgqueue.schedule") == 0


def test_one_that_cannot_be_fired_is_named(app: App, conn: psycopg.Connection) -> None:
    app.schedule("s", "elsewhere", cron="0 3 * * *")
    Clock(app=app).advance(1)
    conn.execute("update pgqueue.schedule set tz = 'Mars/Olympus', next_run_at = now()")
    with pytest.raises(PgQueueError, match="schedule s: 'No time zone found"):
        Clock(app=app).advance(1)
