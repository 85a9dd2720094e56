"""A task whose runs fail too often is held up, tried with one job, and let through again."""

import json
import os
import re
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from pgqueue import App, Breaker, InvalidOption, Limit, Task, db
from pgqueue.cli import cli
from pgqueue.gates.admit import recall
from pgqueue.gates.limit import Rule
from pgqueue.queries import Queries
from pgqueue.queries.worker import Tripped
from tests.conftest import Worker, eventually
from tests.gates import fragile
from tests.gates.doorkeeper import Doorkeeper
from tests.hands import Hands

Start = Callable[..., Worker]

BREAKER = Breaker(0.5, of=4, per=60, rest=100)
NEVER_RAN = "00000000-0000-7000-8000-000000000000"
STATE = "select closed_by, closed_why, half_open_at is not null, trial::text from pgqueue.gate where name = 'task:call'"


class House:
    """A task with a breaker, and a worker's statements about it, sent by hand."""

    def __init__(self, app: App, conn: psycopg.Connection, line: psycopg.Connection) -> None:
        self.queries: Queries = app.queries
        self.conn = conn
        for session in conn, line:
            session.execute("set lock_timeout = '5s'")  # what waits fails
        self.hands = Hands(line, app.queries)
        self.keeper = Doorkeeper(line, app.queries, worker=self.hands.id)
        self.line = line
        self.task: Task[Any, Any, Any] = app.task(name="call", breaker=BREAKER)(_nothing)
        self.declare()

    def declare(self) -> None:
        """As a worker does that starts."""
        db.run(self.conn, self.queries.declare_gates([rule.as_json() for rule in self.task.limits.rules]))

    def tell(self, runs: int, failures: int) -> list[Tripped]:
        """What a worker of its own has counted; what the breakers make of it."""
        told = self.queries.count_runs(worker=str(uuid.uuid4()), gates=["task:call"], runs=[runs], failures=[failures])
        db.run(self.conn, told)
        return self.judge()

    def judge(self) -> list[Tripped]:
        tripped: list[Tripped] = db.run(self.conn, self.queries.trip(["task:call"]))
        return tripped

    def rest(self, seconds: int = 101) -> None:
        """The breaker has closed the gate so much earlier."""
        self.conn.execute(
            "update pgqueue.gate set closed_at = closed_at - s, closed_until = closed_until - s, half_open_at = half_open_at - s, "
            "trial_at = trial_at - s from (select %s * interval '1 second' as s) as span", [seconds]
        )  # fmt: skip

    def half_open(self) -> None:
        """It is closed, and the time is over."""
        assert self.tell(4, 4) == [("task:call", 100.0, "4 of 4 failed")]
        self.rest()

    def look(self) -> int:
        """How many jobs are let through."""
        return self.keeper.admit(["task:call"]).queued

    def state(self) -> tuple[Any, ...]:
        return self.conn.execute(STATE).fetchone() or ()


@pytest.fixture
def house(app: App, conn: psycopg.Connection, dsn: str) -> Iterator[House]:
    with db.connect(dsn) as line:
        yield House(app, conn, line)


def _nothing(key: str = "") -> None: ...


# -- what is declared --


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Breaker(0, of=1, per=1, rest=1), "above 0 and at most 1, as in Breaker(0.5, ...), not 0"),
        (lambda: Breaker(1.1, of=1, per=1, rest=1), "above 0 and at most 1, as in Breaker(0.5, ...), not 1.1"),
        (lambda: Breaker(float("nan"), of=1, per=1, rest=1), "above 0 and at most 1"),
        (lambda: Breaker("half", of=1, per=1, rest=1), "above 0 and at most 1"),  # type: ignore[arg-type]
        (lambda: Breaker(True, of=1, per=1, rest=1), "above 0 and at most 1"),
        (lambda: Breaker(0.5, of=0, per=1, rest=1), "of=0 is out of range: 1 to 1000000"),
        (lambda: Breaker(0.5, of=1.5, per=1, rest=1), "of takes a whole number, not a float"),  # type: ignore[arg-type]
        (lambda: Breaker(0.5, of=1, per=0, rest=1), "per=0 s of a breaker is too short: give 0.05 s or more"),
        (lambda: Breaker(0.5, of=1, per=1, rest=timedelta(0)), "rest=0 s of a breaker is too short"),
        (lambda: Breaker(0.5, of=1, per=-1, rest=1), "per=-1 is negative"),
    ],
)
def test_a_breaker_that_cannot_be(wrong: Callable[[], Breaker], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        wrong()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"breaker": 0.5}, "breaker takes a Breaker, not a float"),
        (
            {"limit": [Limit(1, key="key", name="a"), Limit(1, name="b")]},
            "3 limits (a, b, the breaker's task:t); a job passes at most two",
        ),
        ({"limit": Limit(1, key="key")}, "its breaker is at the gate task:t, and so is a limit or a rate with a key"),
    ],
)
def test_what_a_breaker_does_not_go_with(app: App, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        app.task(name="t", **{"breaker": BREAKER} | options)(_nothing)
    assert str(caught.value).startswith("@task t: ") and message in str(caught.value)


def test_a_breaker_shares_the_gate_of_its_task(app: App) -> None:
    task = app.task(name="t", breaker=BREAKER, limit=[5, Limit(1, key="key", name="k")], rate="1/s")(_nothing)
    assert task.limits.rules == [
        Rule("k", 1, keyed=True),
        Rule("task:t", 5, every_s=1.0, break_share=0.5, break_of=4, break_per_s=60.0, break_rest_s=100.0),
    ]


# -- when it closes --


def test_it_takes_a_share_of_enough_runs_in_time(house: House) -> None:
    assert house.tell(3, 3) == []  # too few
    assert house.tell(4, 0) == []  # 3 of 7
    house.conn.execute("update pgqueue.breaker set at = at - interval '61 seconds'")
    assert house.tell(4, 1) == []  # what has failed is too long ago
    assert house.tell(2, 2) == [("task:call", 100.0, "3 of 6 failed")]
    assert house.state() == ("the breaker", "3 of 6 failed", True, None)
    assert house.tell(9, 9) == []  # it is closed already
    assert house.conn.execute("select count(*) from pgqueue.breaker").fetchone() == (3,)  # the old ones are forgotten


def test_two_workers_that_see_it_at_once(house: House, dsn: str) -> None:
    """One closes it, and the other does not wait for that."""
    assert house.tell(2, 2) == []
    with psycopg.connect(dsn) as one:
        worker = str(uuid.uuid4())
        db.run(house.conn, house.queries.count_runs(worker=worker, gates=["task:call"], runs=[2], failures=[2]))
        assert [gate for gate, *_ in db.run(one, house.queries.trip(["task:call"]))] == ["task:call"]
        assert house.judge() == []
        one.commit()
    assert house.judge() == []
    assert house.state()[:2] == ("the breaker", "4 of 4 failed")


def test_of_two_that_tell_at_once_the_later_sees_both(house: House, dsn: str) -> None:
    """Each tells before it judges: the one whose judgement comes last has the sums of the other."""
    workers, barrier = [str(uuid.uuid4()) for _ in range(2)], threading.Barrier(2)
    tripped: list[Tripped] = []

    def tell(worker: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as conn:
            barrier.wait()
            db.run(conn, house.queries.count_runs(worker=worker, gates=["task:call"], runs=[2], failures=[2]))
            tripped.extend(db.run(conn, house.queries.trip(["task:call"])))

    threads = [threading.Thread(target=tell, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tripped == [("task:call", 100.0, "4 of 4 failed")]


def test_jobs_that_have_not_started_wait_again(house: House, app: App) -> None:
    app.queue("slow", limit=3)
    db.run(house.conn, house.queries.declare_gates([rule.as_json() for rule in app.rules()]))
    house.task.options(queue="slow").defer_many([()] * 5)
    assert house.keeper.look() == 3
    (running,) = house.hands.claim(1)
    assert house.tell(4, 4) != []
    admitted = house.keeper.admit(["task:call"])
    assert (admitted.queued, admitted.tripped, admitted.recall) == (0, ["task:call"], ["task:call"])
    assert 99 < admitted.due_s["task:call"] <= 100
    recalled = db.run_together(house.line, recall(house.queries, ["task:call"]))
    assert recalled.again == {"queue:slow", "task:call"}  # two places are free there
    assert house.keeper.admit(["task:call"]).recall == []
    places = "select state::text, gate, count(*) from pgqueue.job group by 1, 2 order by 1"
    assert house.conn.execute(places).fetchall() == [("running", 3, 1), ("waiting", 1, 4)]
    assert house.keeper.look() == 0 and house.keeper.sweep() == set()
    house.hands.finish([running])
    assert app.resume("task:call")
    assert house.keeper.look() == 3 and len(house.hands.claim()) == 3


# -- beside a person --


def test_a_pause_that_is_just_being_said(house: House, dsn: str, app: App) -> None:
    """A breaker neither waits for a person's transaction nor shortens what it says; a person takes over from a breaker."""
    with psycopg.connect(dsn) as person, app.using(person):
        app.pause("task:call", why="the audit")
        assert house.tell(4, 4) == []
        person.commit()
    assert house.judge() == [] and house.state()[1:3] == ("the audit", False)
    app.resume("task:call")
    assert house.judge() == []  # those runs were before
    # The bucket of the time in which it was opened does not count either.
    house.conn.execute("update pgqueue.gate set break_from = break_from - interval '3 seconds'")
    assert house.judge() != [] and house.state()[0] == "the breaker"
    app.pause("task:call", for_=200)
    assert house.state()[1:3] == (None, False)
    house.task.defer_many([()] * 3)
    house.rest(150)
    assert house.look() == 0  # no trial meanwhile
    house.rest(51)
    assert house.look() == 3


def test_resume_opens_at_once(house: House, app: App) -> None:
    house.half_open()
    house.task.defer_many([()] * 3)
    assert house.look() == 1
    assert app.resume("task:call") and not app.resume("task:call")
    assert house.look() == 2 and house.state() == (None, None, False, None)


def test_a_person_who_holds_the_row_holds_up_nobody(house: House, dsn: str) -> None:
    house.half_open()
    house.task.defer_many([()] * 2)
    with psycopg.connect(dsn) as person:
        person.execute("select from pgqueue.gate for update")
        assert house.look() == 0
    assert house.look() == 1


# -- the trial --


def test_one_trial_at_a_time(house: House, conn: psycopg.Connection) -> None:
    house.task.defer_many([()] * 6)
    assert house.look() == 6
    late = house.hands.claim(1)
    house.half_open()
    conn.execute("update pgqueue.job set state = 'waiting', gate = 1 where state = 'queued'")
    assert house.tell(4, 4) == []  # such as jobs that began before
    admitted = house.keeper.admit(["task:call"])
    assert (admitted.queued, admitted.tripped) == (1, [])
    assert house.look() == 0
    (trial,) = house.hands.claim(9)
    assert house.state() == ("the breaker", "4 of 4 failed", True, trial.id)
    # One that was let through before the gate closed is no trial, and says nothing.
    house.hands.finish(late)
    assert house.look() == 0 and house.state()[3] == trial.id
    house.hands.settle(trial, "scheduled", "E", delay_s=1000)
    admitted = house.keeper.admit(["task:call"])
    assert (admitted.queued, admitted.reclosed) == (0, ["task:call"])
    assert 99 < admitted.due_s["task:call"] <= 100
    assert house.state() == ("the breaker", f"its trial failed, job {trial.id}", True, None)
    house.rest()
    assert house.look() == 1
    house.hands.run_all()
    admitted = house.keeper.admit(["task:call"])
    assert (admitted.queued, admitted.reopened) == (3, ["task:call"])
    assert house.state() == (None, None, False, None)
    assert house.judge() == []  # what it has counted before is over


@pytest.mark.parametrize("state", ["dead", "cancelled"])
def test_how_a_trial_may_end(house: House, state: str) -> None:
    house.half_open()
    house.task.defer_many([()] * 3)
    assert house.look() == 1
    (trial,) = house.hands.claim(9)
    house.hands.settle(trial, state, "E")
    admitted = house.keeper.admit(["task:call"])
    # One that was cancelled says nothing of the service: the next one is tried.
    assert (admitted.queued, admitted.reclosed) == ((0, ["task:call"]) if state == "dead" else (1, []))


def test_a_trial_that_leaves_nothing_behind(house: House) -> None:
    house.half_open()
    house.task.defer_many([()] * 3)
    assert house.look() == 1
    house.hands.finish(house.hands.claim(9), result=None)
    admitted = house.keeper.admit(["task:call"])
    assert (admitted.queued, admitted.reopened) == (2, ["task:call"])


@pytest.mark.parametrize(
    "ending",
    [
        "update pgqueue.job set state = 'scheduled', run_at = now() + interval '1 hour', gate = 0, attempt = attempt - 1",  # Snooze
        "update pgqueue.job set state = 'waiting', gate = 1, attempt = attempt - 1",  # it was parked
    ],
)
def test_a_trial_that_was_put_off(house: House, conn: psycopg.Connection, ending: str) -> None:
    house.half_open()
    house.task.defer_many([()] * 2)
    assert house.look() == 1
    (trial,) = house.hands.claim(9)
    conn.execute(f"{ending} where id = %s", [trial.id])
    admitted = house.keeper.admit(["task:call"])
    assert (admitted.queued, admitted.reclosed, admitted.reopened) == (1, [], [])


def test_a_trial_that_no_worker_takes(house: House, conn: psycopg.Connection) -> None:
    """It may be in a queue that nobody serves: after `rest` the next one is tried. One that runs is waited for."""
    house.half_open()
    house.task.options(priority=1, queue="nobody's").defer()
    house.task.defer_many([()] * 2)
    assert house.look() == 1 and house.look() == 0
    house.rest()
    assert house.look() == 1
    conn.execute("update pgqueue.job set state = 'waiting', gate = 1 where queue = 'nobody''s'")
    (trial,) = house.hands.claim(9)
    house.rest(10_000)
    assert house.look() == 0 and house.state()[3] == trial.id


def test_a_trial_in_its_line(house: House, app: App, conn: psycopg.Connection) -> None:
    """The gate of the breaker may be the second."""
    task = app.task(name="call", breaker=BREAKER, ordered="key")(_nothing)
    db.run(conn, house.queries.declare_gates([rule.as_json() for rule in task.limits.rules]))
    task.defer_many([("a",), ("b",), ("c",)])
    house.half_open()
    assert house.keeper.look() == 1
    (trial,) = house.hands.claim(9)
    assert trial.gates == ["order:call=a", "task:call"] and house.state()[3] == trial.id
    house.hands.settle(trial, "scheduled", "E", delay_s=1000)
    assert house.keeper.admit(["task:call"]).reclosed == ["task:call"]


# -- the clock, and deploys --


def test_a_clock_that_is_set_back(house: House, conn: psycopg.Connection) -> None:
    """No longer than `rest` is it closed for that, and what was counted in the future is not counted."""
    assert house.tell(4, 4) != []
    house.task.defer_many([()] * 2)
    assert house.look() == 0
    house.rest(-3600)
    assert house.keeper.sweep() == {"task:call"} and house.look() == 1
    house.rest(-3600)  # the trial is of the future too
    assert house.look() == 1  # as one that nobody has taken
    conn.execute("update pgqueue.breaker set at = at + interval '1 hour'")
    conn.execute(
        "update pgqueue.gate set half_open_at = null, closed_at = null, break_from = now() + interval '1 hour'"
    )
    assert house.tell(1, 1) == []
    assert house.tell(3, 3) != []


def test_a_deploy_keeps_or_drops_it(house: House, app: App, conn: psycopg.Connection) -> None:
    house.half_open()
    house.task.defer_many([()] * 3)
    assert house.look() == 1
    house.declare()
    assert house.look() == 0 and house.state()[2]
    db.run(conn, house.queries.declare_gates([Rule("task:call", 5).as_json()]))
    assert house.look() == 2 and house.tell(9, 9) == []


# -- what people see --


def test_what_is_shown(house: House, app: App, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGQUEUE_DSN", dsn)
    first, job = house.task.defer(), house.task.defer()

    def listed() -> str:
        return CliRunner().invoke(cli, ["limits"]).output

    assert house.tell(4, 2) != []
    (reason, *_) = app.why(job.id).reasons
    shown = r"the gate task:call is closed by the breaker \(2 of 4 failed\), since .* s, for \d+ s more: `pgqueue resume task:call`"
    assert re.fullmatch(shown, reason), reason
    assert re.search(r"closed by the breaker for \d+ s, 2 of 4 failed", listed())
    house.rest()
    assert (
        app.why(job.id)
        .reasons[0]
        .startswith("the gate task:call is half-open after 2 of 4 failed: one job is to be tried;")
    )
    assert "half-open, tries the next job" in listed()
    assert house.look() == 1
    assert app.why(job.id).reasons[0] == (
        f"the gate task:call is half-open after 2 of 4 failed: job {first.id} is tried; to open it: `pgqueue resume task:call`"
    )
    assert f"half-open, tries {first.id}" in listed()
    (row,) = json.loads(CliRunner().invoke(cli, ["limits", "--json"]).output)
    assert (row["half_open"], row["trial"], row["closed"]) == (True, first.id, False)
    app.resume("task:call")
    assert "is open: the next look of a worker lets it through" in app.why(job.id).reasons[0]


# -- real workers --


@pytest.fixture
def shop(dsn: str, conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The tasks, with an App on the test database."""
    conn.execute(fragile.SHOP)
    monkeypatch.setenv("LEDGER", dsn)
    app = App(dsn)
    for task in fragile.call, fragile.store:
        monkeypatch.setattr(task, "app", app)
    yield fragile
    app.close()


def runs(conn: psycopg.Connection) -> int:
    (count,) = conn.execute("select count(*) from shop.ledger").fetchone() or (0,)
    return int(count)


def left(conn: psycopg.Connection) -> int:
    (count,) = conn.execute("select count(*) from pgqueue.job").fetchone() or (0,)
    return int(count)


def test_two_workers_stop_try_and_go_again(shop: Any, conn: psycopg.Connection, start_worker: Start) -> None:
    workers = [start_worker("-c", "2", app="tests.gates.fragile").ready() for _ in range(2)]
    shop.call.defer_many([(0.05,)] * 200)

    def told(text: str) -> bool:
        return any(text in worker.output for worker in workers)

    eventually(lambda: told("the breaker closes the gate for 0.5 s: "), what="the breaker closes the gate")
    eventually(lambda: told("the breaker closes the gate again: its trial failed"), what="a trial fails")
    assert runs(conn) < 150  # of 200, which take a few seconds
    conn.execute("update shop.weather set bad = false")
    eventually(lambda: told("the breaker opens the gate: its trial succeeded"), what="the gate opens")
    eventually(lambda: not left(conn), what="all have ended")
    assert runs(conn) == 200
    assert "".join(worker.output for worker in workers).count("the breaker closes the gate for") == 1


@pytest.mark.long
def test_atomic_jobs_beside_a_limit(shop: Any, conn: psycopg.Connection, start_worker: Start) -> None:
    """Their success is known by their own commit alone."""
    worker = start_worker("-c", "2", app="tests.gates.fragile").ready()
    conn.execute("update shop.weather set bad = false")
    shop.store.defer_many([()] * 20)
    eventually(lambda: not left(conn), what="all have ended")
    counted = "select sum(ended), sum(failed) from pgqueue.breaker where gate like '%.store'"
    eventually(lambda: conn.execute(counted).fetchone() == (20, 0), what="all are counted")
    conn.execute("update shop.weather set bad = true")
    shop.store.defer_many([()] * 40)
    worker.said("the breaker closes the gate again: its trial failed")
    conn.execute("update shop.weather set bad = false")
    worker.said("the breaker opens the gate: its trial succeeded")
    conn.execute("update pgqueue.job set run_at = now() where state = 'scheduled'")
    eventually(lambda: not left(conn), what="all have ended")


@pytest.mark.long
@pytest.mark.parametrize("weather", ["good", "bad"])
def test_the_worker_of_the_trial_is_killed(
    shop: Any, conn: psycopg.Connection, start_worker: Start, weather: str
) -> None:
    """Another one rescues the trial, and what becomes of it there decides."""
    workers = [start_worker("-c", "1", app="tests.gates.fragile").ready() for _ in range(2)]
    shop.call.defer_many([(0.1,)] * 50)
    eventually(
        lambda: any("closes the gate for" in each.output for each in workers), what="the breaker closes the gate"
    )
    none_runs = "select not exists (select from pgqueue.job where state <> 'waiting')"
    eventually(lambda: conn.execute(none_runs).fetchone() == (True,), what="what ran before has ended")
    conn.execute("update shop.weather set slow_s = 600")
    trial = "select trial::text from pgqueue.gate where trial in (select id from pgqueue.job where state = 'running')"
    # One that fails at once may have begun just before.
    slow = f"select job, pid from shop.ledger where job = ({trial}) and at < clock_timestamp() - interval '0.3 s' order by id desc"
    job, pid = eventually(lambda: conn.execute(slow).fetchone(), what="a trial runs")
    (victim,) = [worker for worker in workers if worker.process.pid == pid]
    (other,) = [worker for worker in workers if worker is not victim]
    conn.execute("update shop.weather set slow_s = 0, bad = %s", [weather == "bad"])
    os.kill(victim.process.pid, signal.SIGKILL)
    if weather == "good":
        other.said("the breaker opens the gate: its trial succeeded", within_s=90)
        eventually(lambda: not left(conn), what="all have ended")
    else:
        other.said("the breaker closes the gate again: its trial failed", within_s=90)
    assert conn.execute("select count(*) from shop.ledger where job = %s", [job]).fetchone() == (2,)
