"""The phases of a child's life go forward only, and each says what the child may be asked."""

import pytest

from pgqueue.worker.supervisor.child_handle import Phase, Run
from tests.worker.parts import child, claimed


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("later", Phase)
def test_a_phase_that_is_over_never_comes_back(phase: Phase, later: Phase) -> None:
    one = child(phase=phase)
    one.enter(later)
    assert one.phase is Phase(max(phase, later))


@pytest.mark.parametrize("phase", Phase)
def test_what_each_phase_allows(phase: Phase) -> None:
    one = child(phase=phase)
    assert one.usable == (phase is Phase.READY)
    assert one.answers == (phase in (Phase.READY, Phase.LEAVING))
    assert one.starting == (phase is Phase.STARTING)


def test_one_that_hangs_up_before_its_hello_has_not_started() -> None:
    one = child(phase=Phase.STARTING)
    one.process.connection_lost(None)
    assert one.phase is Phase.GONE and not one.started
    one = child()
    one.process.connection_lost(None)
    assert one.phase is Phase.GONE and one.started


def test_one_that_leaves_returns_what_has_not_started_and_stops_when_the_rest_has_ended() -> None:
    one = child()
    one.give([Run(claimed("j1"), False, None, 0.0)])
    one.leave()
    assert one.told[-1] == ("return_unstarted",) and one.asked_back
    one.end_if_done()
    assert one.told[-1] == ("return_unstarted",)  # its job goes on
    one.pop("j1")
    one.end_if_done()
    assert one.told[-1] == ("stop",)


def test_one_that_has_nothing_stops_at_once_and_a_ready_one_never_by_itself() -> None:
    one = child()
    one.end_if_done()
    assert one.told == []
    one.leave()
    assert one.told == [("stop",)] and not one.asked_back


def test_one_that_does_not_start_in_time_is_given_up() -> None:
    one, ready = child(phase=Phase.STARTING), child()
    for each in one, ready:
        each._give_up_starting(25.0)
    assert (
        one.ending.unrecoverable
        and one.ending.reason == "it did not finish importing the app, on_child_start included, within 25 s"
    )
    assert ready.ending.reason is None and not ready.ending.unrecoverable
