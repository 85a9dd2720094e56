"""The table at the top of idle.py, cell by cell: what follows each look at the queue, and how long the waits are."""

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pgqueue.db.spurious import SpuriousWakeups
from pgqueue.worker.supervisor import idle
from pgqueue.worker.supervisor.identity import Identity
from pgqueue.worker.supervisor.idle import AWAKE_S, LATER_LOOK, SECOND_LOOK_S, Idle, Sleep, Step
from pgqueue.worker.supervisor.wakeups import Wakeups


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each wait would have been."""
    seen: list[float] = []

    async def wait(_: asyncio.Event, timeout_s: float) -> None:
        seen.append(timeout_s)

    monkeypatch.setattr(idle, "wait", wait)
    return seen


def an_idle(*, burst: bool = False, listens: bool = True) -> Idle:
    wakeups = Wakeups(Identity(str(uuid.uuid4())), listens=listens)
    return Idle(wakeups, burst=burst, alarms=SpuriousWakeups(at_most=20))


def come_to(state: Sleep) -> Idle:
    """One that got there by the steps of the table."""
    sleeper = an_idle()
    if state is not Sleep.AWAKE:
        sleeper.mark(True)
    if state is Sleep.RUNG:
        sleeper.answered()
    if state is Sleep.WAITING:
        asyncio.run(sleeper.wait())
    assert sleeper.state is state and sleeper.marked is (state is not Sleep.AWAKE)
    return sleeper


@pytest.mark.parametrize(
    ("state", "quiet", "rung"),
    [
        (Sleep.AWAKE, Step.MARK, Step.MARK),
        (Sleep.MARKED, Step.WAIT, Step.PROMOTE),
        (Sleep.RUNG, Step.WAIT, Step.PROMOTE),
        (Sleep.WAITING, Step.WAIT, Step.PROMOTE),
    ],
    ids=lambda value: value.name,
)
def test_what_follows_when_nothing_was_there(waits: list[float], state: Sleep, quiet: Step, rung: Step) -> None:
    sleeper = come_to(state)
    assert sleeper.hear() is False and sleeper.found_nothing() is quiet
    sleeper.wakeups.ring()
    assert sleeper.hear() is True and sleeper.found_nothing() is rung


@pytest.mark.parametrize("state", Sleep, ids=lambda state: state.name)
def test_jobs_leave_the_mark_until_there_was_no_pause_for_a_while(
    waits: list[float], monkeypatch: pytest.MonkeyPatch, state: Sleep
) -> None:
    sleeper, now = come_to(state), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert sleeper.found_jobs() is Step.CONTINUE and sleeper.state is state and sleeper.busy
    now += AWAKE_S + 0.01
    assert sleeper.found_jobs() is (Step.CONTINUE if state is Sleep.AWAKE else Step.UNMARK)
    sleeper.found_nothing()
    assert sleeper.found_jobs() is Step.CONTINUE  # there was a pause


def test_waits_grow_up_to_a_poll_and_begin_anew_after_a_bell(waits: list[float]) -> None:
    async def sleep() -> None:
        sleeper = an_idle()
        sleeper.mark(True)
        for _ in range(6):
            await sleeper.wait()
        sleeper.answered()
        await sleeper.wait()

    asyncio.run(sleep())
    assert waits == pytest.approx([*(SECOND_LOOK_S * LATER_LOOK**n for n in range(4)), 5.0, 5.0, SECOND_LOOK_S])


@pytest.mark.parametrize(
    ("sleeper", "longest_s"),
    [(lambda: an_idle(listens=False), 1.0), (lambda: an_idle(burst=True), idle.BURST_POLL_S)],
    ids=["polling", "burst"],
)
def test_the_longest_wait(waits: list[float], sleeper: Callable[[], Idle], longest_s: float) -> None:
    async def sleep(one: Idle) -> None:
        for _ in range(6):
            await one.wait()

    asyncio.run(sleep(sleeper()))
    assert max(waits) == pytest.approx(longest_s)


def test_no_wait_goes_beyond_what_falls_due_or_what_the_scan_asks_for(waits: list[float]) -> None:
    async def sleep() -> None:
        sleeper = an_idle()
        sleeper.wakeups.due_in(0.01)
        assert sleeper.wakeups.doorbell.is_set()  # who sleeps already must sleep shorter
        await sleeper.wait()
        sleeper.promoted(0, None)
        await sleeper.wait(at_most_s=0.02)

    asyncio.run(sleep())
    assert 0 < waits[0] <= 0.01 and waits[1] == 0.02


def within_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_a_bell_during_a_look_ends_the_wait_after_it() -> None:
    async def ring_late() -> None:
        sleeper = an_idle()
        sleeper.mark(True)
        assert not sleeper.hear()
        sleeper.wakeups.ring()  # while the look is under way
        assert sleeper.found_nothing() is Step.WAIT
        await asyncio.wait_for(sleeper.wait(), SECOND_LOOK_S / 2)  # at once
        assert sleeper.hear() and sleeper.found_nothing() is Step.PROMOTE

    within_a_loop(ring_late)


def test_a_bell_while_awake_is_remembered_beyond_the_mark() -> None:
    sleeper = an_idle()
    sleeper.wakeups.ring()
    assert sleeper.hear() and sleeper.found_nothing() is Step.MARK
    sleeper.mark(True)
    assert not sleeper.hear() and sleeper.found_nothing() is Step.PROMOTE
    sleeper.heed()
    sleeper.answered()
    assert not sleeper.hear() and sleeper.found_nothing() is Step.WAIT


def test_a_due_job_that_somebody_has_locked_is_looked_for_again_soon() -> None:
    sleeper = an_idle()
    sleeper.promoted(0, -1.0)
    assert sleeper.wakeups.next_due_at is not None and not sleeper.due and not sleeper.wakeups.doorbell.is_set()
    sleeper.promoted(3, 0.0)
    assert sleeper.due and sleeper.wakeups.doorbell.is_set()
