"""The log of events under faults: a dispatcher that ends after any of its statements, a reader that stands still between two.

That relays and buses are killed and frozen is in tests/events/test_relays.py and tests/buses; that listeners lose their session
in test_channels.py; a migration while events flow in test_load.py.
"""

import contextlib
import itertools
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.proxy import Proxy
from pgqueue import App, db
from pgqueue.events.dispatch import Round, dispatch_round
from pgqueue.events.subscription import Subscription, declare
from pgqueue.queries import Statement
from pgqueue.queries.events import Front
from tests.conftest import Worker, eventually


class Ended(Exception):
    """The dispatcher's session is gone."""


def dispatch(app: App, cluster: Cluster, *, most: int | None = None) -> Round:
    """A round of a dispatcher, statement by statement; after `most` of them its session is ended."""
    with db.connect(app.dsn, name="dispatcher") as conn:
        steps, said = dispatch_round(app.queries), itertools.count(1)
        try:
            statements = next(steps)
            while True:
                answers = []
                for statement in statements:
                    answers.append(db.run(conn, statement))
                    if next(said) == most:
                        _end(cluster, conn.info.backend_pid)
                        raise Ended
                statements = steps.send(answers)
        except StopIteration as done:
            value: Round = done.value
            return value


def _end(cluster: Cluster, pid: int) -> None:
    with cluster.connect() as admin:
        admin.execute("select pg_terminate_backend(%s)", [pid])
        eventually(
            lambda: admin.execute("select from pg_stat_activity where pid = %s", [pid]).rowcount == 0, what="it is gone"
        )


def test_f61_a_dispatcher_that_ends_after_any_of_its_statements(
    app: App, cluster: Cluster, conn: psycopg.Connection
) -> None:
    """Its successor makes each job that it has not, and none twice, also where subscriptions stand at different places."""
    wanted: list[tuple[str, str]] = []

    def publish(*types: str) -> None:
        for type_ in types:
            event = app.publish(type_)
            wanted.extend((name, event) for name, each in subscriptions.items() if type_ in each.types)

    subscriptions = {
        name: Subscription(name=name, mode="job", types=types, task=name)
        for name, types in (("early", ["a", "b"]), ("late", ["b", "c"]))
    }
    with conn.transaction():
        db.run(conn, declare(app.queries, subscriptions["early"]))
    publish("a")
    wanted = [pair for pair in wanted if pair[0] == "early"]
    with conn.transaction():
        db.run(conn, declare(app.queries, subscriptions["late"]))
    made = "select task, args::json -> 0 ->> 'id' from pgqueue.job"
    for most in itertools.count(1):
        publish("a", "b", "c")
        try:
            dispatch(app, cluster, most=most)
            break  # that many it does not say
        except Ended:
            seen = sorted(conn.execute(made).fetchall())
            assert len(set(seen)) == len(seen), f"doubled after statement {most}"
    while (done := dispatch(app, cluster)).events or done.more:
        pass
    assert sorted(conn.execute(made).fetchall()) == sorted(wanted)
    assert most > 5  # begin, lock, places, one of each place, commit


def test_f61_each_value_of_each_statement_of_a_dispatcher_may_be_refused(
    start_worker: Callable[..., Worker], app: App, conn: psycopg.Connection
) -> None:
    queries, front = app.queries, Front(0, 0, 1, "", None, "", None, [])
    said: list[Statement[Any]]
    said = [queries.lock_dispatch(), queries.dispatch(front, most=1), queries.mark_reader(reader="", asleep=True)]
    names = ("lock_dispatch", "dispatch", "mark")
    wanted = {f"refused: {name}.{place}" for name, one in zip(names, said, strict=True) for place in one.params}
    worker = start_worker("-c", "1", app="tests.event_tasks", program="tests.faults.refusing").ready()
    events: list[str] = []
    made = "select args::json -> 0 ->> 'id' from pgqueue.jobs where task = 'tests.event_tasks.audit'"

    def none_is_left() -> bool:
        if conn.execute(made).rowcount >= len(events):  # so that it sleeps in between
            events.append(app.publish("user.created"))
        return wanted <= {*worker.lines}

    eventually(none_is_left, what="each was refused", within_s=120)
    eventually(lambda: conn.execute(made).rowcount >= len(events), what="a job of each event")
    assert sorted(id_ for (id_,) in conn.execute(made)) == sorted(events)
    assert worker.stop() == 0 and "Traceback" not in worker.output, worker.output


@pytest.mark.parametrize("who", ["a-loop", "a-dispatcher"])
def test_f66_one_that_stands_still_in_the_midst_of_a_tick(
    who: str, start_worker: Callable[..., Worker], cluster: Cluster, proxy: Proxy, dsn: str, app: App,
    conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Whoever makes ticks holds a lock that others wait for. A program that is frozen then, or cut off, must not keep it."""
    monkeypatch.setattr("pgqueue.queries.events.STILL_S", 1)
    worker = start_worker("-c", "1", app="tests.event_tasks").ready()
    cut = _cut_off_once_it_locks(proxy)
    beyond = App(cluster.dsn("shop", port=proxy.port))
    thread = threading.Thread(target=_read if who == "a-loop" else _dispatch, args=[beyond], daemon=True)
    if who == "a-loop":
        app.subscribe("user.*", name="loop")
        thread.start()
        eventually(
            lambda: conn.execute("select from pgqueue.subscription where name = 'loop'").rowcount, what="it is there"
        )
    cut.set()
    if who == "a-dispatcher":
        thread.start()
    first = app.publish("user.created", 1)
    holds = (
        "select from pg_stat_activity join pg_locks using (pid) where locktype = 'advisory' and state = 'idle in transaction'"
        " and granted"
    )
    eventually(lambda: proxy.torn, what="it is cut off")
    second = app.publish("user.created", 2)
    made = "select args::json -> 0 ->> 'id' from pgqueue.jobs where task = 'tests.event_tasks.audit'"
    eventually(lambda: {id_ for (id_,) in conn.execute(made)} >= {first, second}, what="their jobs")
    eventually(lambda: not conn.execute(holds).rowcount, what="nobody holds it")
    assert sorted(id_ for (id_,) in conn.execute(made)) == sorted([first, second])
    proxy.heal()
    beyond.close()
    thread.join(20)
    assert worker.stop() == 0


def _cut_off_once_it_locks(proxy: Proxy) -> threading.Event:
    """Once the event is set, the answer to the lock of ticks, and all after it, is lost."""
    cut = threading.Event()
    locking = threading.Event()

    def sent(data: bytes) -> bool:
        if cut.is_set() and b".tick'))" in data:
            locking.set()
        return True

    def answered(kind: bytes, body: bytes) -> bool:
        if locking.is_set():
            proxy.cut()
        return True

    proxy.request, proxy.reply = sent, answered
    return cut


def _read(app: App) -> None:
    for _ in app.subscribe("user.*", name="loop"):
        pass


def _dispatch(app: App) -> None:
    with contextlib.suppress(db.DatabaseError), db.connect(app.dsn, name="dispatcher", silence_s=60.0) as conn:
        db.run_together(conn, dispatch_round(app.queries))
