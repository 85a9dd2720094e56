"""How many jobs a worker claims: by what starts at once, by what was measured, and never by more than one answer holds."""

import pytest

from pgqueue.queries import CLAIM_BYTES
from pgqueue.worker.settings import CLAIM_MAX
from pgqueue.worker.supervisor.demand import AHEAD_MAX_S, AHEAD_S, RATE_WINDOW_S, SURPLUS, Demand, Supply, WorkDone


def supply(*, room: int = 0, flowing: int = 4, children: int = 4, buffered: int = 0) -> Supply:
    return Supply(room, flowing, children, buffered)


def at_rate(jobs_per_s: int) -> Demand:
    """A child that has jobs was measured to end so many a second."""
    demand = Demand()
    demand.measure_rate(WorkDone(1.0, jobs_per_s))
    return demand


@pytest.mark.parametrize("room", [0, 1, 4])
def test_before_anything_was_measured_only_what_starts_at_once(room: int) -> None:
    assert Demand().wanted(supply(room=room)) == room


def test_long_jobs_are_not_claimed_ahead() -> None:
    slow = at_rate(20)  # 4 children x 20/s x 0.1 s = 8 = two for each child
    assert slow.wanted(supply(room=3)) == 3
    assert slow.wanted(supply(room=0)) == 0


def test_short_jobs_are_claimed_ahead_and_what_is_buffered_counts() -> None:
    fast = at_rate(1000)  # 4 x 1000/s x 0.1 s = 400 ahead
    assert fast.wanted(supply(room=4)) == 404
    assert fast.wanted(supply(room=4, buffered=100)) == 304
    assert fast.wanted(supply(room=4, buffered=500)) == -96


def test_without_a_free_place_not_before_half_is_missing() -> None:
    fast = at_rate(1000)
    assert fast.wanted(supply(buffered=200)) == 0
    assert fast.wanted(supply(buffered=199)) == 201


def test_only_children_that_took_a_job_just_now_will_take_another() -> None:
    fast = at_rate(1000)
    assert fast.wanted(supply(room=1, flowing=1)) == 101
    assert fast.wanted(supply(room=1, flowing=0)) == 1


def test_a_slow_database_gets_larger_claims_up_to_a_second() -> None:
    fast = at_rate(1000)
    fast.measure_trip(0.2)  # half of it counts
    assert fast.trip_s == pytest.approx(0.1)
    assert fast.wanted(supply(room=1, flowing=1)) == 1 + round(1000 * (AHEAD_S + 0.1))
    fast.measure_trip(60.0)
    assert fast.wanted(supply(flowing=1)) == min(CLAIM_MAX, round(1000 * AHEAD_MAX_S))


def test_never_more_than_one_statement_takes() -> None:
    assert at_rate(1_000_000).wanted(supply()) == CLAIM_MAX
    assert Demand().wanted(supply(room=CLAIM_MAX + 1)) == CLAIM_MAX


def test_large_arguments_make_small_claims() -> None:
    fast = at_rate(1000)
    fast.measure_sizes([CLAIM_BYTES // 20] * 3)
    assert fast.wanted(supply(room=1)) == 1 + 20
    fast.measure_sizes([])  # a claim that brought nothing says nothing of sizes
    assert fast.wanted(supply(room=1)) == 1 + 20
    fast.measure_sizes([CLAIM_BYTES])
    assert fast.wanted(supply(room=1)) == 1


def test_jobs_without_arguments_divide_nothing_by_zero() -> None:
    fast = at_rate(1000)
    fast.measure_sizes([0, 0])
    assert fast.wanted(supply(room=0)) == 400


def test_the_first_jobs_count_at_once_and_later_ones_half() -> None:
    demand = Demand()
    demand.measure_rate(WorkDone(0.0, 0))
    assert demand.rate == 0
    demand.measure_rate(WorkDone(0.001, 1))
    assert demand.rate == pytest.approx(1000)
    demand.measure_rate(WorkDone(0.001 + RATE_WINDOW_S / 2, 100))  # too short a time to tell
    assert demand.rate == pytest.approx(1000)
    demand.measure_rate(WorkDone(0.101, 51))
    assert demand.rate == pytest.approx(750)


def test_what_was_measured_before_a_pause_counts_no_more() -> None:
    demand = at_rate(1000)
    demand.forget_rate()
    assert demand.wanted(supply(room=2)) == 2
    demand.measure_rate(WorkDone(1.01, 1001))
    assert demand.rate == pytest.approx(100)


def test_a_surplus_is_four_times_what_is_wanted_ahead_with_every_place_taken() -> None:
    fast, idle = at_rate(1000), Demand()
    assert not fast.has_surplus(supply(buffered=SURPLUS * 400))
    assert fast.has_surplus(supply(buffered=SURPLUS * 400 + 1))
    assert not fast.has_surplus(supply(room=1, buffered=SURPLUS * 400 + 1))
    assert not idle.has_surplus(supply(buffered=SURPLUS * 8))
    assert idle.has_surplus(supply(buffered=SURPLUS * 8 + 1))
    assert not idle.has_surplus(supply(children=0, buffered=SURPLUS * 2))
