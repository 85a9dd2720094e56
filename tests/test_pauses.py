"""A queue that is paused for a time resumes by itself, by the database's clock; one that is drained is empty, and then paused."""

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgqueue import App, ConfigError, InvalidOption, db
from pgqueue.ops import drain as draining
from pgqueue.ops import stats
from pgqueue.testing import Clock
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker, eventually
from tests.hands import Hands
from tests.shell import Shell


@pytest.fixture
def worker(conn: psycopg.Connection, app: App) -> Hands:
    return Hands(conn, app.queries)


def paused(app: App) -> dict[str, float | None]:
    """The queues that are, with the seconds until they resume."""
    told = app.run(stats.gather(app.queries))
    return {queue.name: queue.resume_s for queue in told.queues if queue.paused}


def drained(app: App) -> bool:
    """What a burst asks."""
    (answer,) = app.run(app.queries.drained(queues=None, unknown=[]))
    return bool(answer)


# -- for a time --


@pytest.mark.parametrize("span", [600, "600", "10m"])
def test_a_pause_ends_by_itself(app: App, conn: psycopg.Connection, worker: Hands, span: Any) -> None:
    job = app.enqueue("t")
    app.pause("default", for_=span)
    assert worker.claim() == [] and drained(app)
    assert "paused" in [row.what for row in app.run(app.queries.doctor_backlog())]
    known = [("default", 0, 0)]
    claim = app.queries.claim(worker=worker.id, cursors=known, unknown=[], limit=1)
    aside = app.queries.set_aside(
        worker=worker.id, worker_name="w", cursors=known, unknown=[], cause="c", error="e"
    )  # fmt: skip
    assert not db.run(conn, claim) and not db.run(conn, aside)
    assert 599 < (paused(app)["default"] or 0) <= 600
    assert "is paused, since 0." in app.why(job.id).reasons[0] and "and resumes in 10 m" in app.why(job.id).reasons[0]
    Clock(app=app).advance(599)
    assert worker.claim() == []
    Clock(app=app).advance(2)
    assert paused(app) == {} and not drained(app) and "paused" not in " ".join(app.why(job.id).reasons)
    assert "paused" not in [row.what for row in app.run(app.queries.doctor_backlog())]
    assert worker.run_all() == [job.id]
    assert app.resume("default") is False
    # For an older worker, that knows nothing of the time.
    assert conn.execute("select paused_at, paused_by, resume_at from pgqueue.queue").fetchall() == [(None, None, None)]


def test_of_two_pauses_the_last_says_for_how_long(app: App, conn: psycopg.Connection) -> None:
    since = "select paused_at from pgqueue.queue"
    app.pause("a")
    first = one_value(conn, since)
    app.pause("a", for_="1h")
    assert 3599 < (paused(app)["a"] or 0) <= 3600
    app.pause("a")
    assert paused(app) == {"a": None} and one_value(conn, since) == first
    app.pause("a", for_="1h")
    Clock(app=app).advance(3601)
    assert paused(app) == {}
    app.pause("a")
    assert paused(app) == {"a": None} and one_value(conn, since) > first
    assert app.resume("a") and paused(app) == {}


def test_a_worker_claims_again_without_another_word(
    task_app: App, start_worker: Callable[..., Worker], conn: psycopg.Connection
) -> None:
    task_app.pause("default", for_=0.7)
    job = tasks.now.defer()
    start_worker("-c", "1", "--no-listen")
    job.result(timeout=30)
    assert one_value(conn, "select started_at >= resume_at from pgqueue.history cross join pgqueue.queue")


@pytest.mark.parametrize(
    ("span", "told"), [(0, "a pause of no time"), (-1, "for_=-1 is negative"), ("soon", "for_='soon' is not a span of time")]
)  # fmt: skip
def test_a_pause_for_no_time(app: App, conn: psycopg.Connection, span: Any, told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        app.pause("a", for_=span)
    assert one_value(conn, "select count(*) from pgqueue.queue") == 0


# -- drained --


class Draining:
    """A call of drain() in a thread."""

    def __init__(self, app: App, **options: Any) -> None:
        self.left: int | None = None
        self._thread = threading.Thread(target=self._run, args=[app], kwargs=options)
        self._thread.start()

    def _run(self, app: App, **options: Any) -> None:
        self.left = app.drain("default", **options)

    def end(self) -> int | None:
        self._thread.join(60)
        return self.left

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What each look of a drain has found."""
    found: list[Any] = []
    look = draining._look

    def noted(*args: Any) -> Any:
        found.append(look(*args))
        return found[-1]

    monkeypatch.setattr(draining, "_look", noted)
    monkeypatch.setattr(draining, "DRAIN_LOOK_S", 0.02)
    return found


def seen(looks: list[Any], due: int, running: int) -> None:
    """Wait for a look that begins from now on and finds this."""
    before = len(looks)
    eventually(lambda: any(look[:2] == (due, running) for look in looks[before + 1 :]), what=f"{due} and {running}")


def test_a_queue_is_paused_once_it_is_empty(
    app: App, conn: psycopg.Connection, worker: Hands, looks: list[Any]
) -> None:
    """Nothing is refused meanwhile, what is due later stays, and other queues are not waited for."""
    app.enqueue("t")
    late = app.enqueue("t", delay=3600)
    (first,) = worker.claim()
    waiting = app.enqueue("t")
    app.enqueue("t", queue="other")
    draining = Draining(app)
    seen(looks, 1, 1)
    worker.finish([first])
    came = app.enqueue("t")
    seen(looks, 2, 0)
    ours = [job for job in worker.claim() if job.queue == "default"]
    assert [job.id for job in ours] == [waiting.id, came.id]
    seen(looks, 0, 2)
    assert draining.waits and paused(app) == {}
    worker.finish(ours)
    assert draining.end() == 0 and paused(app) == {"default": None}
    app.enqueue("t")
    assert worker.claim() == [] and late.state == "scheduled"
    assert app.drain("other", timeout=0) == 1


def test_what_a_worker_has_not_made_runnable_yet_is_due(app: App, conn: psycopg.Connection) -> None:
    app.enqueue("t", delay=3600)
    conn.execute("update pgqueue.job set run_at = now() - interval '1 second'")
    assert app.drain("default", timeout=0.001) == 1 and paused(app) == {}


def test_a_job_that_slips_in_before_the_pause_is_waited_for(
    app: App, worker: Hands, looks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes and is claimed after the look that found nothing."""
    held: list[Any] = []
    look = draining._look

    def slip(*args: Any) -> Any:
        found = look(*args)
        if not held:
            app.enqueue("t")
            held.extend(worker.claim())
        return found

    monkeypatch.setattr(draining, "_look", slip)
    call = Draining(app)
    seen(looks, 0, 1)
    assert call.waits and paused(app) == {"default": None}
    worker.finish(held)
    assert call.end() == 0
    held.clear()
    app.resume("default")
    assert app.drain("default", timeout=0.05) == 1 and paused(app) == {}  # as it was


def test_ctrl_c_leaves_the_queue_as_it_was(
    app: App, worker: Hands, looks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the pause is made and not yet believed."""

    def interrupted(*args: Any) -> Any:
        assert len(looks) == 1 and paused(app) == {"default": None}
        raise KeyboardInterrupt

    monkeypatch.setattr("pgqueue.ops.drain.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        app.drain("default")
    monkeypatch.undo()
    assert paused(app) == {}


def test_a_paused_queue_with_jobs_is_never_drained(app: App) -> None:
    app.pause("default")
    assert app.drain("default") == 0
    app.enqueue("t")
    with pytest.raises(
        ConfigError, match=r"paused with jobs that are due \(1\): they run only after `pgqueue resume default`"
    ):
        app.drain("default")


def test_not_inside_a_transaction(app: App, conn: psycopg.Connection) -> None:
    with app.using(conn), pytest.raises(ConfigError, match=r"outside of using\(\)"):
        app.drain("default")


# -- commands --


def test_the_commands(app: App, shell: Shell, dsn: str, tmp_path: Any) -> None:
    def typed(*words: str) -> tuple[int, str]:
        done = shell.text(*words, cwd=tmp_path, dsn=dsn)
        return done.returncode, (done.stdout + done.stderr).strip()

    assert typed("pause", "a", "--for", "10m") == (
        0,
        "queue a is paused for 10m; or run `pgqueue resume a` to continue",
    )
    assert 590 < (paused(app)["a"] or 0) <= 600
    assert "paused for" in typed("stats", "--once")[1]
    code, told = typed("pause", "a", "--for", "soon")
    assert code == 2 and told.startswith("pgqueue: --for='soon' is not a span of time") and "\n" not in told
    app.enqueue("t", queue="b")
    code, told = typed("drain", "b", "--timeout", "0.1")
    assert code == 1 and told.splitlines() == [
        "waiting until no job of queue b is due or runs; `pgqueue stats` shows them",
        "pgqueue: queue b is not drained: 1 job is due or running after 0.1",
    ]
    code, told = typed("drain", "c")
    assert code == 0 and "queue c is drained and paused; run `pgqueue resume c` to continue" in told.splitlines()
    assert set(paused(app)) == {"a", "c"}
    code, told = typed("drain", "b", "--timeout", "-1")
    assert code == 2 and told.startswith("pgqueue: --timeout='-1' is not a span of time") and "\n" not in told
