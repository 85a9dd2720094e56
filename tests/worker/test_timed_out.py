"""Jobs whose child was killed over their time limit: a child is asked what becomes of them, and another if that one ends."""

from pgqueue.job import Outcome, Verdict
from pgqueue.worker.settings import CRASH_CAP
from pgqueue.worker.supervisor.child_handle import ChildHandle, Phase
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue
from pgqueue.worker.supervisor.timed_out import CAUSE, TimedOutJobs
from tests.worker.parts import NotingChild, child, claimed

JOB = claimed("j1", token=7)


class Scene:
    """Children, whom they may be asked, and what was decided without any."""

    def __init__(self, *children: NotingChild) -> None:
        everybody: list[ChildHandle] = [*children]
        self._outcome_queue = OutcomeQueue()
        self.jobs = TimedOutJobs(everybody, self._outcome_queue)

    @property
    def decided(self) -> list[Outcome]:
        return self._outcome_queue.outcomes


def asked(one: NotingChild) -> list[str]:
    """The ids of the jobs of which this child was asked."""
    return [message[1].id for message in one.told if message[0] == "ask_policy"]


def test_the_first_child_that_is_ready_is_asked() -> None:
    starting, first, second = child(1, phase=Phase.STARTING), child(2), child(3)
    scene = Scene(starting, first, second)
    scene.jobs.add(JOB, "took longer than 5 s")
    assert first.told == [("ask_policy", JOB, CAUSE, "took longer than 5 s")]
    assert not starting.told and not second.told and not scene.decided
    assert scene.jobs.ids() == {"j1"}


def test_without_one_that_is_ready_jobs_wait_in_order() -> None:
    late = child(phase=Phase.STARTING)
    scene = Scene(late)
    scene.jobs.add(JOB, "e")
    scene.jobs.add(claimed("j2"), "e")
    assert not late.told and scene.jobs.ids() == {"j1", "j2"}
    late.enter(Phase.READY)
    scene.jobs.ask()
    assert asked(late) == ["j1", "j2"]
    scene.jobs.ask()
    assert asked(late) == ["j1", "j2"]  # once is enough


def test_only_what_was_asked_for_is_an_answer() -> None:
    scene = Scene(child())
    scene.jobs.add(JOB, "e")
    assert not scene.jobs.answered("j2")
    assert scene.jobs.answered("j1")
    assert not scene.jobs.answered("j1")
    assert scene.jobs.ids() == set()


def test_what_a_child_leaves_unanswered_is_asked_of_another() -> None:
    first, second = child(1), child(2)
    scene = Scene(first, second)
    for job_id in "j1", "j2":
        scene.jobs.add(claimed(job_id), "e")
    scene.jobs.answered("j1")
    scene.jobs.ended(second)
    assert asked(first) == ["j1", "j2"] and asked(second) == []
    first.enter(Phase.GONE)
    scene.jobs.ended(first)
    assert asked(second) == ["j2"]
    assert scene.jobs.answered("j2") and not scene.decided


def test_a_policy_that_ends_every_process_buries_its_job() -> None:
    children = [child(number) for number in range(CRASH_CAP)]
    scene = Scene(*children)
    scene.jobs.add(JOB, "took longer than 5 s")
    for turn, one in enumerate(children):
        assert asked(one) == ["j1"] and not scene.decided, turn
        one.enter(Phase.GONE)
        scene.jobs.ended(one)
    error = f"took longer than 5 s; the process that asked its retry policy ended {CRASH_CAP} times"
    assert scene.decided == [Outcome("j1", 7, Verdict.DEAD, cause=CAUSE, error=error)]
    assert scene.jobs.ids() == set() and not scene.jobs.answered("j1")


def test_all_can_be_dropped() -> None:
    only = child()
    scene = Scene(only)
    scene.jobs.add(JOB, "e")
    only.enter(Phase.GONE)
    scene.jobs.add(claimed("j2"), "e")
    assert [job.id for job in scene.jobs.clear()] == ["j1", "j2"]
    assert scene.jobs.ids() == set() and scene.jobs.clear() == []
