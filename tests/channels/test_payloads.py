"""Payloads: what fits into NOTIFY, what does not, and what cannot be sent at all."""

import logging
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgqueue import App, DatabaseUnavailable, Gap, InvalidArguments
from pgqueue.channels import notify as sending
from pgqueue.channels.payloads import LARGE_BYTES, notice_id, pack, unpack
from tests.answers import one_value
from tests.channels.ways import Loop
from tests.conftest import Worker, eventually

NOTICES = "select count(*) from pgqueue.notice"


def of_bytes(size: int) -> str:
    """A text whose JSON has so many bytes."""
    return "x" * (size - 2)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (of_bytes(7_499), 0), (of_bytes(7_500), 0), (of_bytes(7_501), 1), ("é" * 3_749, 0), ("é" * 3_750, 1),
        (of_bytes(1_000_000), 1),
        ({"$pgqueue": "0" * 8}, 0), ({"$pgqueue": of_bytes(8_000)}, 1), ([{"$pgqueue": 1}], 0),
    ],
    ids=["7,499", "7,500", "7,501", "7,500 not ASCII", "7,502 not ASCII", "1 MB", "like an envelope", "a large one", "a list"],
)  # fmt: skip
def test_c5_a_payload_of_any_size_arrives(app: App, conn: psycopg.Connection, value: Any, kept: int) -> None:
    with Loop(app, "large") as loop:
        app.notify("large", value)
        app.notify("large", value, distinct=True)
        assert loop.heard(2) == [value, value]
    assert one_value(conn, NOTICES) in (2 * kept, kept + 1)


def test_one_that_is_rolled_back_is_not_kept(app: App, dsn: str, conn: psycopg.Connection) -> None:
    with psycopg.connect(dsn) as own:
        app.notify("large", of_bytes(8_000), conn=own)
        own.rollback()
    assert one_value(conn, NOTICES) == 0


def test_one_that_is_no_longer_kept_is_a_gap(app: App, conn: psycopg.Connection) -> None:
    with Loop(app, "large", "other") as loop:
        conn.execute(
            "select pg_notify('large', %s)", [pack(of_bytes(8_000), channel="", distinct=False, max_bytes=9_000).sent]
        )
        eventually(lambda: loop.gaps, what="it is said")
        assert loop.gaps == [Gap("large", "a large payload cannot be read or is not kept any longer")]


def test_a_worker_forgets_those_of_yesterday(app: App, conn: psycopg.Connection, start_worker: Any) -> None:
    for _ in range(3):
        app.notify("large", of_bytes(8_000))
    conn.execute(
        "update pgqueue.notice set at = now() - interval '25 hours' where id <> (select max(id::text)::uuid from pgqueue.notice)"
    )
    worker: Worker = start_worker("-c", "1").ready()
    eventually(lambda: one_value(conn, NOTICES) == 1, what="two are forgotten")
    assert worker.stop() == 0 and "fails" not in worker.output


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: 2}, "payload"), (float("nan"), "payload"), (object(), "payload"), (["\ud800"], "payload[0]"),
        (of_bytes(1_000_001), "payload: 1,000,001 bytes of JSON are more than the limit of 1,000,000"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused_and_nothing_written(
    app: App, dsn: str, conn: psycopg.Connection, value: Any, message: str
) -> None:
    with psycopg.connect(dsn) as own:
        own.execute("select 1")
        with pytest.raises(InvalidArguments) as caught:
            app.notify("orders", value, conn=own)
        assert str(caught.value).startswith(f"notify('orders'): {message}") and "\n" not in str(caught.value)
        own.execute("select 1")
    assert one_value(conn, NOTICES) == 0


def test_a_full_queue_is_said_before_the_commit_fails(app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = app.queries.text("channels/notify").replace("pg_notification_queue_usage()", "0.75::float8")
    monkeypatch.setitem(app.queries._texts, "channels/notify", text)
    with psycopg.connect(dsn) as own:
        with pytest.raises(
            DatabaseUnavailable, match="the server's queue of notifications is 75% full, so this one was not sent"
        ):
            app.notify("orders", 1, conn=own)
        own.execute("select 1")
    assert sending.ROOM == 0.5


def test_no_payload_is_logged(app: App, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), Loop(app, "orders") as loop:
        app.notify("orders", "canary")
        loop.heard(1)
    assert "canary" not in caplog.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=50)
@given(value=JSON | st.dictionaries(st.just("$pgqueue"), JSON), distinct=st.booleans())
def test_an_envelope_gives_back_what_was_put_in(value: Any, distinct: bool) -> None:
    try:
        packed = pack(value, channel="c", distinct=distinct, max_bytes=10**6)
    except InvalidArguments:
        return
    plain = pack([value], channel="c", distinct=False, max_bytes=10**6)
    if packed.notice_id is None:
        assert f"[{unpack(packed.sent)}]" == (plain.text or plain.sent)
        assert len(packed.sent.encode()) <= LARGE_BYTES
    assert notice_id(packed.sent) == packed.notice_id
