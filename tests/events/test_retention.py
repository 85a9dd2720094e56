"""Days of the log are dropped when they are old and everybody has passed them; what is dropped before that is counted."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from pgqueue import App, db
from tests.events.test_windows import drain, subscribe

LEAVES = (
    "select 'pgqueue.' || relname from pg_class join pg_partition_tree('pgqueue.event') on relid = oid where isleaf"
)


def tidy(app: App) -> None:
    with db.connect(app.dsn) as conn, conn.transaction():
        db.run(conn, app.queries.tidy_events(keep_days=7, keep_days_at_most=30))


def name_of(days_ago: int) -> str:
    return f"pgqueue.event_{datetime.now(UTC) - timedelta(days=days_ago):%Y%m%d}"


def days(conn: psycopg.Connection) -> set[str]:
    return {name for (name,) in conn.execute(LEAVES)}


def make_old(conn: psycopg.Connection, days_ago: int) -> None:
    """What lies in today's partition is from a day that is so long ago, in a partition of its own."""
    name = name_of(days_ago)
    day = datetime.now(UTC).date() - timedelta(days=days_ago)
    conn.execute(
        f"create table {name} partition of pgqueue.event for values from ('{day} 00:00Z') to ('{day + timedelta(1)} 00:00Z')"
    )
    conn.execute("update pgqueue.event set at = at - %s * interval '1 day'", [days_ago])


@pytest.fixture
def migrated(fresh_dsn: str) -> App:
    app = App(fresh_dsn)
    app.migrate()
    return app


def test_the_coming_days_are_there_and_late_rows_move_in(migrated: App) -> None:
    with psycopg.connect(migrated.dsn, autocommit=True) as conn:
        assert days(conn) == {"pgqueue.event_rest", *(name_of(-n) for n in range(4))}
        conn.execute(f"drop table {name_of(0)}")
        subscribe(migrated, "one")
        event = migrated.publish("t", 1)
        assert conn.execute("select id::text from pgqueue.event_rest").fetchone() == (event,)
        tidy(migrated)
        assert conn.execute(f"select id::text from {name_of(0)}").fetchone() == (event,)
        assert drain(migrated) == 1
    migrated.close()


def test_an_old_day_goes_when_everybody_has_passed_it(migrated: App) -> None:
    with psycopg.connect(migrated.dsn, autocommit=True) as conn:
        subscribe(migrated, "one")
        migrated.publish("t", 1)
        make_old(conn, 8)
        tidy(migrated)
        assert name_of(8) in days(conn)
        assert drain(migrated) == 1
        tidy(migrated)
        assert name_of(8) not in days(conn)
        assert conn.execute("select lost from pgqueue.subscription").fetchone() == (0,)
    migrated.close()


def test_a_day_that_nobody_wants_goes(migrated: App) -> None:
    with psycopg.connect(migrated.dsn, autocommit=True) as conn:
        subscribe(migrated, "one")
        migrated.publish("of no interest")
        make_old(conn, 8)
        tidy(migrated)
        assert name_of(8) not in days(conn)
    migrated.close()


def test_what_is_dropped_unread_is_counted(migrated: App) -> None:
    with psycopg.connect(migrated.dsn, autocommit=True) as conn:
        subscribe(migrated, "one", "two")
        migrated.publish_many([{"type": "t"}] * 3 + [{"type": "other"}])
        make_old(conn, 31)
        tidy(migrated)
        assert name_of(31) not in days(conn)
        assert conn.execute("select name, lost from pgqueue.subscription order by 1").fetchall() == [
            ("one", 3),
            ("two", 3),
        ]
        assert drain(migrated) == 0
        migrated.publish("t", 2)
        assert drain(migrated) == 1
    migrated.close()


def test_ticks_that_everybody_has_passed_are_thinned(migrated: App) -> None:
    with psycopg.connect(migrated.dsn, autocommit=True) as conn:
        subscribe(migrated, "one")
        for _ in range(5):
            migrated.publish("t")
            assert drain(migrated) == 1
        conn.execute("update pgqueue.tick set at = date_trunc('minute', at)")
        tidy(migrated)
        kept = [id_ for (id_,) in conn.execute("select id from pgqueue.tick order by id")]
        assert kept == [1, 6]  # the first of ten seconds, and that of the place
        migrated.publish("t")
        assert drain(migrated) == 1
    migrated.close()
