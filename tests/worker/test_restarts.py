"""How long a worker waits before it starts another child, on a clock that leaps."""

import asyncio

import pytest

from pgqueue.worker.settings import BACK_OFF_MAX_S, FIRST_START_S, START_FACTOR, START_GAP_S, START_S
from pgqueue.worker.supervisor import restarts
from pgqueue.worker.supervisor.restarts import RestartPacing
from tests.worker.parts import LeapingClock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> LeapingClock:
    made = LeapingClock()
    monkeypatch.setattr(restarts, "time", made)
    return made


@pytest.mark.parametrize(("failures", "pause_s"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, BACK_OFF_MAX_S), (60, 30)])
def test_each_failure_doubles_the_pause_up_to_a_limit(clock: LeapingClock, failures: int, pause_s: float) -> None:
    began_s = clock.now_s
    clock.run(RestartPacing().back_off(failures))
    assert clock.now_s - began_s == pytest.approx(pause_s)


async def waits(clock: LeapingClock, pacing: RestartPacing, count: int) -> list[float]:
    """When each of so many places that failed for the first time at once may try again, in seconds from now."""
    began_s = clock.now_s

    async def one() -> float:
        await pacing.back_off(1)
        return clock.now_s - began_s

    return sorted(await asyncio.gather(*(one() for _ in range(count))))


def test_all_places_together_try_once_a_second(clock: LeapingClock) -> None:
    found = clock.run(waits(clock, RestartPacing(), 5))
    assert found == pytest.approx([1 + START_GAP_S * turn for turn in range(5)])


def test_a_child_that_comes_up_ends_every_wait(clock: LeapingClock) -> None:
    async def scene() -> tuple[list[float], float]:
        pacing = RestartPacing()
        asyncio.get_running_loop().call_later(0.5, pacing.started, 0.1)
        first = await waits(clock, pacing, 5)
        return first, (await waits(clock, pacing, 1))[0]

    first, later = clock.run(scene())
    assert first == pytest.approx([0.5] * 5)
    assert later == pytest.approx(1)  # nothing is left of the queue of tries that there was


def test_a_start_may_take_as_long_as_the_slowest_one_lets_fear() -> None:
    pacing = RestartPacing()
    limits = [pacing.limit_s]
    for took_s in (1.0, 10.0, 2.0):
        pacing.started(took_s)
        limits.append(pacing.limit_s)
    assert limits == [FIRST_START_S, START_S, 10 * START_FACTOR, 10 * START_FACTOR]


@pytest.mark.parametrize(("spoiled", "pause_s"), [(0, 0), (1, 0), (2, 1), (3, 2), (6, 16), (7, BACK_OFF_MAX_S)])
def test_the_first_spoiled_child_is_replaced_at_once(clock: LeapingClock, spoiled: int, pause_s: float) -> None:
    began_s = clock.now_s
    clock.run(RestartPacing().rest(spoiled))
    assert clock.now_s - began_s == pytest.approx(pause_s)


@pytest.mark.parametrize(("end", "rested_s"), [("started", 4.0), ("hurry", 0.5)])
def test_a_rest_ends_with_the_worker_and_not_with_another_child(clock: LeapingClock, end: str, rested_s: float) -> None:
    async def scene() -> float:
        pacing, began_s = RestartPacing(), clock.now_s
        ends = {"started": lambda: pacing.started(0.1), "hurry": pacing.hurry}
        asyncio.get_running_loop().call_later(0.5, ends[end])
        await pacing.rest(4)
        return clock.now_s - began_s

    assert clock.run(scene()) == pytest.approx(rested_s)


def test_nobody_backs_off_once_all_is_over(clock: LeapingClock) -> None:
    async def scene() -> list[float]:
        pacing = RestartPacing()
        asyncio.get_running_loop().call_later(0.25, pacing.hurry)
        return await waits(clock, pacing, 3)

    assert clock.run(scene()) == pytest.approx([0.25] * 3)
