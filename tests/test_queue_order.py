"""In which order a claim reads queues and priorities: usual, strict, by weight, and what has waited first, one time in ten."""

import random
from collections import Counter
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgqueue import App, db
from pgqueue.cli.options import Served, served_queues
from pgqueue.errors import InvalidOption
from pgqueue.queries import Queries
from pgqueue.worker.supervisor.cursors import Cursors, Pair
from pgqueue.worker.supervisor.queue_order import AGED_CLAIM, WAITED_S, QueueOrder, Turn
from tests import tasks
from tests.answers import one_value
from tests.conftest import Worker
from tests.hands import Hands

QUEUES = ("a", "b", "c")
FLOOD = 60_000  # jobs, of which a worker runs less than 20,000 a second here
pairs = st.dictionaries(st.tuples(st.sampled_from(QUEUES), st.integers(-2, 2)), st.integers(0, 50), min_size=1)
weights = st.lists(st.integers(1, 1000), min_size=3, max_size=3)
orders = st.one_of(
    st.builds(QueueOrder),
    st.builds(lambda: QueueOrder(QUEUES, strict=True)),
    st.builds(lambda weights: QueueOrder(QUEUES, weights=weights), weights),
)


def seen(turn: Turn) -> list[Pair]:
    """The pairs in their order."""
    return [(queue, priority) for queue, priority, _ in turn.positions]


# -- pure --


@given(order=orders, cursors=pairs, looks=st.lists(pairs, max_size=3), turns=st.integers(1, 25))
def test_every_claim_names_all_pairs_once_with_their_cursors(
    order: QueueOrder, cursors: dict[Pair, int], looks: list[dict[Pair, int]], turns: int
) -> None:
    for number, look in enumerate(looks):
        order.saw(look, now_s=float(number))
    for _ in range(turns):
        turn = order.turn(cursors)
        assert {(queue, priority): seq for queue, priority, seq in turn.positions} == cursors
        assert len(turn.positions) == len(cursors)


@given(cursors=pairs, turns=st.integers(1, 25))
def test_usual_as_long_as_nobody_has_waited(cursors: dict[Pair, int], turns: int) -> None:
    order, plain = QueueOrder(), Cursors()
    plain.rewind([(queue, priority, seq + 1) for (queue, priority), seq in cursors.items()], since={})
    for number in range(turns):
        order.saw(cursors, now_s=number * WAITED_S / 26)
        assert order.turn(cursors) == (plain.positions(), True)


@given(cursors=pairs, turns=st.integers(1, 25))
def test_strict_is_by_queue_then_priority_however_long_others_wait(cursors: dict[Pair, int], turns: int) -> None:
    order = QueueOrder(("c", "a", "b"), strict=True)
    for number in range(turns):
        order.saw(cursors, now_s=3600.0 * number)
        assert seen(order.turn(cursors)) == sorted(cursors, key=lambda pair: ("cab".index(pair[0]), -pair[1]))


@given(cursors=pairs, looks=st.lists(pairs, min_size=1, max_size=4), given_weights=st.one_of(st.none(), weights))
def test_one_claim_in_ten_begins_with_what_has_waited_oldest_first(
    cursors: dict[Pair, int], looks: list[dict[Pair, int]], given_weights: list[int] | None
) -> None:
    """Said once more, by brute force: in each group (all, or a queue) what has waited is sorted by age, the rest as usual."""
    order = QueueOrder(QUEUES, weights=given_weights) if given_weights else QueueOrder()
    for number, look in enumerate(looks):
        order.saw(look, now_s=number * WAITED_S)
    for _ in range(AGED_CLAIM - 1):
        order.turn(cursors)
    found = seen(order.turn(cursors))
    for group in QUEUES if given_weights else ("",):
        mine = sorted(
            (pair for pair in cursors if group in pair[0]), key=lambda pair: (-pair[1], cursors[pair], pair[0])
        )
        with_jobs = [pair for pair in mine if pair in looks[-1]]
        old = [
            pair for pair in with_jobs if len(looks) > 1 and pair in looks[-2] and cursors[pair] < cursors[with_jobs[0]]
        ]
        told = [pair for pair in found if group in pair[0]]
        assert [cursors[pair] for pair in told[: len(old)]] == sorted(cursors[pair] for pair in old)
        assert set(told[: len(old)]) == set(old)
        rest = [(-priority, cursors[queue, priority]) for queue, priority in told[len(old) :]]
        assert rest == sorted(rest)
        if given_weights and told:
            assert found.index(told[-1]) - found.index(told[0]) == len(told) - 1  # a queue's pairs stay together


def test_by_weight_a_queue_is_first_as_often_as_its_weight_says() -> None:
    """Of those that have jobs: one that has none takes no share from the others."""
    order = QueueOrder(QUEUES, weights=(5, 1, 100), dice=random.Random(7))
    firsts = Counter(seen(order.turn({("a", 0): 1, ("b", 0): 1}))[0][0] for _ in range(6000))
    assert 4800 < firsts["a"] < 5200
    order = QueueOrder(QUEUES, weights=(5, 1, 100), dice=random.Random(7))
    later = Counter[str]()  # which comes after c, if c is first
    for _ in range(6000):
        first, second, _ = seen(order.turn({("a", 0): 1, ("b", 9): 1, ("c", 0): 1}))
        later[second[0]] += first[0] == "c"
    assert 0.78 < later["a"] / (later["a"] + later["b"]) < 0.88


# -- what -Q says --


@pytest.mark.parametrize(
    ("text", "served"),
    [
        (None, Served()),
        ("a, b,a", Served(("a", "b"))),
        ("mail:eu,mail:us", Served(("mail:eu", "mail:us"))),
        ("a:5,b:1", Served(("a", "b"), (5, 1))),
        ("a: 5 , b", Served(("a", "b"), (5, 1))),
        ("tenant:42:1", Served(("tenant:42",), (1,))),
        ("mail:eu:1,a:2", Served(("mail:eu", "a"), (1, 2))),
    ],
)
def test_queues_and_weights(text: str | None, served: Served) -> None:
    assert served_queues(text) == served


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a:0,b:1", "a whole number from 1 to 1000", id="b54-weight-0"),
        pytest.param("a:-1,b:1", "a whole number from 1 to 1000", id="b54-weight-below-0"),
        pytest.param("a:1.5,b:1", "a whole number from 1 to 1000", id="b54-half-a-weight"),
        pytest.param("a:1001,b:1", "a whole number from 1 to 1000", id="b54-a-weight-too-large"),
        pytest.param("a:5,b:x", "x is not a weight; if the queue is called b:x, write b:x:1", id="b54-no-number"),
        pytest.param("a:5,b:", "nothing is not a weight", id="b54-no-weight"),
        pytest.param("a:5,a:1", "names the queue a twice", id="b54-twice"),
        pytest.param("tenant:42", "leave it out; if the queue is called tenant:42, write tenant:42:1", id="b54-alone"),
        pytest.param(":5,b:1", ":5: 5 is not a weight", id="b54-no-name"),
    ],
)
def test_weights_that_cannot_be(text: str, told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        served_queues(text)


# -- with real claims --


class Claims:
    """A worker's claims, a tenth of a second apart, each after a look."""

    def __init__(self, conn: psycopg.Connection, queries: Queries, order: QueueOrder) -> None:
        self.hands = Hands(conn, queries)
        self.order = order
        self._conn, self._queries, self._cursors, self._now_s = conn, queries, Cursors(), 0.0

    def claim(self, limit: int) -> Counter[str]:
        """How many jobs of each queue came; they succeed."""
        self._now_s += 0.1
        (heads,) = db.run(self._conn, self._queries.heads(queues=None, unknown=[]))
        self.order.saw(zip(heads.queues, heads.priorities, strict=True), now_s=self._now_s)
        since = self._cursors.snapshot()
        self._cursors.rewind(zip(heads.queues, heads.priorities, heads.seqs, strict=True), since=since)
        turn = self.order.turn(self._cursors.snapshot())
        claim = self._queries.claim(worker=self.hands.id, cursors=turn.positions, unknown=[], limit=limit)
        jobs = turn.sorted(db.run(self._conn, claim))
        self._cursors.advance(jobs, sent=turn.positions, now_s=self._now_s)
        self.hands.finish(jobs)
        return Counter(job.queue for job in jobs)


def fill(conn: psycopg.Connection, queue: str, jobs: int, *, priority: int = 0) -> None:
    conn.execute(
        "insert into pgqueue.job (id, queue, priority, task) "
        "select gen_random_uuid(), %s, %s, 't' from generate_series(1, %s)",
        [queue, priority, jobs],
    )


def test_what_waits_is_not_starved(conn: psycopg.Connection, queries: Queries) -> None:
    """100 jobs of a low priority, while there are always some of a high one: they are done after ten times as many claims."""
    claims = Claims(conn, queries, QueueOrder())
    fill(conn, "low", 100)
    done = count = 0
    while done < 100:
        fill(conn, "high", 40, priority=5)
        taken = claims.claim(20)
        assert sum(taken.values()) == 20
        done += taken["low"]
        count += 1
        assert count <= AGED_CLAIM * 100 / 20 + 1.0 / 0.1, f"{100 - done} are left"
    assert claims.claim(20) == {"high": 20}


def test_strict_leaves_a_queue_alone_while_one_before_it_has_jobs(conn: psycopg.Connection, queries: Queries) -> None:
    claims = Claims(conn, queries, QueueOrder(("first", "second"), strict=True))
    fill(conn, "second", 30, priority=9)
    for _ in range(3 * AGED_CLAIM):
        fill(conn, "first", 20)
        assert claims.claim(20) == {"first": 20}
    assert claims.claim(20) == {"second": 20}


def test_by_weight_no_place_stays_empty(conn: psycopg.Connection, queries: Queries) -> None:
    claims = Claims(conn, queries, QueueOrder(("a", "b"), weights=(9, 1), dice=random.Random(1)))
    fill(conn, "b", 45)
    fill(conn, "a", 60)
    assert [sum(claims.claim(20).values()) for _ in range(6)] == [20, 20, 20, 20, 20, 5]


def test_a_worker_takes_the_queues_in_its_order(task_app: App, start_worker: Callable[..., Worker]) -> None:
    later = tasks.now.options(priority=5).defer()
    first = tasks.now.options(queue="other").defer()
    worker = start_worker("-c", "1", "--burst", "-Q", "other,default", "--strict")
    worker.said("other, then default (strict)")
    assert worker.wait() == 0
    assert first.result(timeout=10) < later.result(timeout=10)


def test_a_worker_serves_queues_by_weight(task_app: App, start_worker: Callable[..., Worker]) -> None:
    jobs = [tasks.now.options(queue=queue).defer() for queue in ("other", "default")]
    worker = start_worker("-c", "1", "--burst", "-Q", "other:5,default:1")
    worker.said("other (5 of 6), default (1 of 6)")
    assert worker.wait() == 0
    assert [job.state for job in jobs] == ["succeeded"] * 2


@pytest.mark.long
def test_a_worker_in_a_flood_runs_what_waits(
    task_app: App, conn: psycopg.Connection, start_worker: Callable[..., Worker]
) -> None:
    """More comes with a large priority than it can run."""
    low = [tasks.now.defer() for _ in range(20)]
    tasks.forget.options(priority=5).defer_many(() for _ in range(FLOOD))
    start_worker("-c", "1")
    for job in low:
        job.result(timeout=60)
    assert one_value(conn, "select count(*) from pgqueue.job where state = 'queued' and priority = 5") > FLOOD / 10
