"""pgqueue.enqueue(): the way in for psql, triggers and other languages."""

import time
import uuid
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from pgqueue import App
from tests.hands import Hands


def enqueue(conn: psycopg.Connection, arguments: str) -> str:
    ((id_,),) = conn.execute(f"select pgqueue.enqueue({arguments})::text").fetchall()
    return str(id_)


def test_the_defaults(app: App, conn: psycopg.Connection) -> None:
    job = app.job(enqueue(conn, "'shop.buy'")).snapshot()
    assert (job.state, job.queue, job.priority, job.task, job.args, job.kwargs) == (
        "queued", "default", 0, "shop.buy", "[]", "{}",
    )  # fmt: skip
    assert (job.max_attempts, job.unique_key, job.headers, job.attempt) == (None, None, None, 0)
    assert job.run_at == job.created_at


def test_every_argument_by_name(app: App, conn: psycopg.Connection) -> None:
    id_ = enqueue(
        conn,
        """task => 't', args => '[1, "ü", null]', kwargs => jsonb_build_object('a', 1), queue => 'q', priority => -5,
        delay => interval '1 hour', run_at => '2150-01-01 00:00Z', max_attempts => 3, timeout_s => 1.5,
        expires_at => '2151-01-01 00:00Z', unique_key => 'key', headers => '{"h": []}'""",
    )
    job = app.job(id_).snapshot()
    assert (job.state, job.queue, job.priority, job.args, job.kwargs) == (
        "scheduled",
        "q",
        -5,
        '[1, "ü", null]',
        '{"a": 1}',
    )
    assert (job.max_attempts, job.unique_key, job.headers) == (3, "key", '{"h": []}')
    assert job.run_at == datetime(2150, 1, 1, 1, tzinfo=UTC)
    assert conn.execute("select timeout_s, expires_at from pgqueue.job").fetchone() == (
        1.5, datetime(2151, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def test_when(app: App, conn: psycopg.Connection) -> None:
    for arguments, state in (
        ("'t', delay => '90 seconds'", "scheduled"),
        ("'t', delay => '-1 day'", "queued"),
        ("'t', run_at => now() + interval '1 minute'", "scheduled"),
        ("'t', run_at => '2001-01-01'", "queued"),
        ("'t', run_at => now(), delay => '1 s'", "scheduled"),
    ):
        assert app.job(enqueue(conn, arguments)).state == state, arguments
    job = app.job(enqueue(conn, "'t', delay => '90 seconds'")).snapshot()
    assert job.run_at - job.created_at == timedelta(seconds=90)


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC", "20000-01-01"])
def test_a_time_that_no_worker_could_read_is_refused(app: App, conn: psycopg.Connection, moment: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        enqueue(conn, f"'t', run_at => '{moment}'")
    assert app.jobs() == []


def test_the_id_is_a_uuid_of_version_7_in_time_order(conn: psycopg.Connection) -> None:
    before = time.time_ns() // 1_000_000 - 1
    texts = [enqueue(conn, "'t'")]
    time.sleep(0.002)
    texts.append(enqueue(conn, "'t'"))
    for text in texts:
        id_ = uuid.UUID(text)
        assert (id_.version, id_.variant) == (7, uuid.RFC_4122)
        assert before <= id_.int >> 80 <= time.time_ns() // 1_000_000 + 1
    assert texts == sorted(texts)
    rows = conn.execute("select pgqueue.uuid7() from generate_series(1, 10000)").fetchall()
    assert len(set(rows)) == 10_000 and all(id_.version == 7 and id_.variant == uuid.RFC_4122 for (id_,) in rows)


def test_a_unique_key(app: App, conn: psycopg.Connection) -> None:
    first = enqueue(conn, "'t', unique_key => 'key'")
    assert enqueue(conn, "'t', args => '[2]', unique_key => 'key'") == first
    assert app.enqueue("t", unique="key").id == first and len(app.jobs()) == 1
    worker = Hands(conn, app.queries)
    (claimed,) = worker.claim()
    assert enqueue(conn, "'t', unique_key => 'key'") == first
    worker.finish([claimed])
    assert enqueue(conn, "'t', unique_key => 'key'") != first


def test_it_rings_once_and_only_for_what_is_due(conn: psycopg.Connection, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("listen pgqueue_jobs")
        enqueue(conn, "'t', queue => 'later', delay => '1 hour'")
        with conn.transaction(force_rollback=True):
            enqueue(conn, "'t', queue => 'undone'")
        conn.execute("select pgqueue.enqueue('t', queue => 'mail') from generate_series(1, 100)")
        enqueue(conn, "'t', queue => 'soon', delay => '2 s'")
        conn.execute("select pg_notify('pgqueue_jobs', '(mark)')")
        heard = [note.payload for note in listener.notifies(timeout=60, stop_after=3)]
    assert heard == ["mail", "soon", "(mark)"]


def test_rolled_back_there_is_no_job(app: App, conn: psycopg.Connection, dsn: str) -> None:
    with psycopg.connect(dsn) as caller:
        enqueue(caller, "'t'")
        caller.rollback()
        kept = enqueue(caller, "'t'")
        assert app.jobs() == []
        caller.commit()
    assert [job.id for job in app.jobs()] == [kept]


def test_from_a_trigger(app: App, conn: psycopg.Connection) -> None:
    conn.execute("""
        create schema shop;
        create table shop.buyer (id int, email text);
        create function shop.welcome() returns trigger language plpgsql as $$
        begin
          perform pgqueue.enqueue('shop.welcome', jsonb_build_array(new.id), jsonb_build_object('email', new.email));
          return null;
        end $$;
        create trigger welcome after insert on shop.buyer for each row execute function shop.welcome();
    """)
    conn.execute("insert into shop.buyer values (1, 'a@b.c'), (2, 'ü@b.c')")
    assert [(job.args, job.kwargs) for job in sorted(app.jobs(), key=lambda job: job.args)] == [
        ("[1]", '{"email": "a@b.c"}'), ("[2]", '{"email": "ü@b.c"}'),
    ]  # fmt: skip


def test_whatever_the_search_path_and_time_zone(app: App, conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("""
            create schema shop;
            create function shop.now() returns timestamptz language sql as $$ select 'infinity'::timestamptz $$;
            create function shop.uuid7() returns uuid language sql as $$ select null::uuid $$;
            set local search_path = shop, pg_catalog;
            set local timezone = 'Asia/Kathmandu';
        """)
        id_ = enqueue(conn, "'t', delay => '0'")
        row = conn.execute(
            "select state::text, run_at between pg_catalog.now() and clock_timestamp() from pgqueue.job where id = %s",
            [id_],
        ).fetchone()
        assert row == ("queued", True)


def test_uuid7_finds_no_name_of_others(conn: psycopg.Connection) -> None:
    with conn.transaction(force_rollback=True):
        conn.execute("""
            create schema evil;
            create function evil.hijack() returns void language plpgsql as $$ begin raise 'hijacked'; end $$;
            create function evil.gen_random_uuid() returns uuid language sql as 'select null::uuid from evil.hijack()';
            create function evil.clock_timestamp() returns timestamptz language sql as 'select now() from evil.hijack()';
            create function evil.encode(bytea, text) returns text language sql as 'select null::text from evil.hijack()';
            create function evil.set_bit(bytea, integer, integer) returns bytea language sql
              as 'select $1 from evil.hijack()';
            create function evil.overlay(bytea, bytea, integer, integer) returns bytea language sql
              as 'select $1 from evil.hijack()';
            create function evil.times(float8, integer) returns float8 language sql as 'select $1 from evil.hijack()';
            create operator evil.* (leftarg = float8, rightarg = integer, function = evil.times);
            create domain evil.uuid as pg_catalog.uuid check (evil.hijack() is null);
            create domain evil.int8 as pg_catalog.int8 check (evil.hijack() is null);
            set local search_path = evil, pg_temp, pg_catalog;
        """)
        with pytest.raises(psycopg.errors.RaiseException, match="hijacked"), conn.transaction():
            conn.execute("select gen_random_uuid()")
        ((id_,),) = conn.execute("select pgqueue.uuid7()").fetchall()
        assert id_.version == 7


def test_a_call_that_finds_the_job_rings_for_its_queue(conn: psycopg.Connection, dsn: str) -> None:
    enqueue(conn, "'t', queue => 'mail', unique_key => 'key'")
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("listen pgqueue_jobs")
        enqueue(conn, "'t', queue => 'other', unique_key => 'key'")
        assert [note.payload for note in listener.notifies(timeout=60, stop_after=1)] == ["mail"]


@pytest.mark.parametrize("wrong", ["null", "'t', queue => null", "'t', args => null", "'t', priority => 40000"])
def test_what_it_refuses(app: App, conn: psycopg.Connection, wrong: str) -> None:
    with pytest.raises((psycopg.errors.NotNullViolation, psycopg.errors.NumericValueOutOfRange)):
        enqueue(conn, wrong)
    assert app.jobs() == []


def test_a_worker_reads_what_it_wrote(app: App, conn: psycopg.Connection) -> None:
    enqueue(conn, "'t', args => '[1, 1e3]', priority => 1")
    conn.execute("select pgqueue.enqueue('t', jsonb_build_array(n)) from generate_series(1, 3) as n")
    claimed = Hands(conn, app.queries).claim()
    assert [job.args for job in claimed] == ["[1, 1000]", "[1]", "[2]", "[3]"]
