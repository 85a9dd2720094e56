"""Which child gets which job, and when none does."""

import math
import time
from collections.abc import Iterable

import pytest

from pgqueue.job import Claimed
from pgqueue.worker.settings import CLAIM_MAX, CRASH_CAP, FAST_S, FRAME_BYTES, FRAME_JOBS, FRAME_S, STUCK_S
from pgqueue.worker.supervisor.child_handle import ChildHandle, Phase, Run
from pgqueue.worker.supervisor.dispatch import SAMPLES, Dispatcher, TaskProfile
from tests.worker.parts import NotingChild, child, claimed

ASYNC_JOBS = 100
LONG_AGO_S = 10 * STUCK_S


def fast(mean_s: float = FAST_S / 100) -> TaskProfile:
    return TaskProfile(is_async=False, timeout_s=None, mean_s=mean_s, samples=SAMPLES)


class Scene:
    """A dispatcher that knows a slow, a short and an async task."""

    def __init__(self, *children: NotingChild, tasks: Iterable[str] = ("slow", "short", "async")) -> None:
        everybody: list[ChildHandle] = [*children]
        self.dispatcher = Dispatcher(everybody)
        self.dispatcher.async_jobs = ASYNC_JOBS
        known = {
            "slow": TaskProfile(False, 5.0), "short": fast(), "async": TaskProfile(True, None),
            "two": TaskProfile(True, None, async_limit=2), "five": TaskProfile(True, None, async_limit=5),
        }  # fmt: skip
        self.dispatcher.learn({name: known[name] for name in tasks})

    def take(self, *jobs: Claimed, left_alone: Iterable[str] = ()) -> None:
        self.dispatcher.take(jobs, left_alone=frozenset(left_alone))

    @property
    def buffered(self) -> list[str]:
        return [job.id for job in self.dispatcher.buffer]


def jobs(task: str, count: int, *, start: int = 0) -> list[Claimed]:
    return [claimed(f"{task}{number}", task) for number in range(start, start + count)]


def long_ago(*children: NotingChild) -> None:
    """Nothing has moved there for a long time."""
    for one in children:
        one.moved_at = one.filled_at = time.monotonic() - LONG_AGO_S


# -- what is known of a task --


def test_a_task_is_slow_until_it_was_measured_often_enough() -> None:
    profile, found = TaskProfile(is_async=False, timeout_s=None), []
    for _ in range(SAMPLES):
        profile.measured(FAST_S / 2)
        found.append(profile.fast)
    assert found == [False] * (SAMPLES - 1) + [True]
    assert profile.mean_s == pytest.approx(FAST_S / 2)  # the start value is forgotten


def test_a_task_that_turns_slow_is_found_out() -> None:
    profile = fast()
    profile.measured(1.0)
    assert not profile.fast


def test_what_a_second_child_reports_takes_no_measurement_away() -> None:
    scene = Scene()
    scene.dispatcher.learn({"short": TaskProfile(False, None), "new": TaskProfile(False, None)})
    assert scene.dispatcher.tasks["short"].fast and "new" in scene.dispatcher.tasks


# -- giving --


def test_a_slow_job_for_each_thread_and_the_rest_waits() -> None:
    one, two = child(1, threads=2), child(2)
    scene = Scene(one, two)
    scene.take(*jobs("slow", 5))
    assert one.given == [["slow0"], ["slow1"]] and two.given == [["slow2"]]
    assert scene.buffered == ["slow3", "slow4"]
    one.pop("slow0")
    scene.dispatcher.dispatch()
    assert one.given[-1] == ["slow3"] and scene.buffered == ["slow4"]


@pytest.mark.parametrize("why", ["starting", "leaving", "gone", "isolated"])
def test_a_child_that_is_not_usable_gets_nothing(why: str) -> None:
    one = child(phase={"starting": Phase.STARTING, "leaving": Phase.LEAVING, "gone": Phase.GONE}.get(why, Phase.READY))
    one.isolated = "other" if why == "isolated" else None
    scene = Scene(one)
    scene.take(*jobs("slow", 1), *jobs("async", 1))
    assert one.given == [] and len(scene.buffered) == 2


def test_short_jobs_share_a_frame() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*jobs("short", FRAME_JOBS + 1))
    assert [len(frame) for frame in one.given] == [FRAME_JOBS, 1]
    assert one.given[0] == [f"short{number}" for number in range(FRAME_JOBS)]


def test_a_frame_holds_so_much_work_and_no_more() -> None:
    one = child()
    scene = Scene(one)
    scene.dispatcher.tasks["short"] = fast(FRAME_S / 4)
    scene.take(*jobs("short", 10))
    assert len(one.given[0]) == 4


def test_a_frame_holds_so_many_bytes_and_no_more() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*(claimed(f"short{number}", "short", args="x" * (FRAME_BYTES // 3)) for number in range(4)))
    assert one.given[0] == ["short0", "short1", "short2"]


def test_a_frame_ends_before_a_slow_job() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*jobs("short", 2), *jobs("slow", 1), *jobs("short", 1, start=2))
    assert one.given == [["short0", "short1"]] and scene.buffered == ["slow0", "short2"]


def test_a_frame_ends_before_a_job_of_which_little_is_known() -> None:
    one = child()
    scene = Scene(one)
    scene.dispatcher.tasks["slow"] = TaskProfile(False, None, mean_s=FAST_S / 100, samples=SAMPLES - 1)
    scene.take(*jobs("short", 1), *jobs("slow", 1))
    assert one.given == [["short0"]]


def test_a_second_frame_waits_behind_a_child_that_moves_and_behind_no_other() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*jobs("short", 1))
    scene.take(*jobs("short", 1, start=1))
    assert one.given == [["short0"], ["short1"]]
    long_ago(one)
    scene.take(*jobs("short", 1, start=2))
    assert one.given == [["short0"], ["short1"]] and scene.buffered == ["short2"]


def test_async_jobs_go_to_the_child_that_has_fewest() -> None:
    one, two = child(1), child(2)
    scene = Scene(one, two)
    scene.take(*jobs("async", 3))
    scene.take(*jobs("async", 1, start=3))
    assert one.given == [["async0", "async1", "async2"]] and two.given == [["async3"]]


def test_async_jobs_up_to_a_limit_for_each_child() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*jobs("async", ASYNC_JOBS + 2))
    assert len(one.async_runs) == ASYNC_JOBS
    assert scene.buffered == [f"async{ASYNC_JOBS}", f"async{ASYNC_JOBS + 1}"]


def test_a_jobs_own_time_limit_goes_before_its_tasks() -> None:
    one = child(threads=2)
    Scene(one).take(claimed("a", "slow"), claimed("b", "slow", timeout_s=1.0))
    assert [run.timeout_s for run in one.runs] == [5.0, 1.0]


# -- jobs that crashed --


def test_a_job_that_crashed_runs_alone() -> None:
    one = child(threads=4)
    scene = Scene(one)
    one.give([Run(claimed("busy", "slow"), False, None, time.monotonic())])
    scene.take(claimed("crashed", "slow", crashes=1))
    assert one.given == [["busy"]]  # there is a free thread, but also a neighbour
    one.pop("busy")
    scene.take(*jobs("slow", 1))
    assert one.given == [["busy"], ["crashed"]] and scene.buffered == ["slow0"]
    one.pop("crashed")
    scene.dispatcher.dispatch()
    assert one.given[-1] == ["slow0"]


def test_its_last_try_is_in_a_process_that_has_run_nothing() -> None:
    used = child()
    used.done_count = 1
    scene = Scene(used)
    scene.take(claimed("crashed", "slow", crashes=CRASH_CAP - 1))
    assert used.given == [] and used.phase is Phase.LEAVING and used.told == [("stop",)]


def test_no_child_is_sent_away_for_it_where_a_fresh_one_is_or_comes() -> None:
    used, fresh, coming = child(1), child(2), child(3, phase=Phase.STARTING)
    used.done_count = coming.done_count = 1  # the last one is about to end
    for other in fresh, coming:
        scene = Scene(used, other)
        scene.take(claimed("crashed", "slow", crashes=CRASH_CAP - 1))
        assert used.phase is Phase.READY and used.given == []
    assert fresh.given == [["crashed"]]


def test_an_earlier_try_is_content_with_a_used_process() -> None:
    used = child()
    used.done_count = 1
    scene = Scene(used)
    scene.take(claimed("crashed", "slow", crashes=CRASH_CAP - 2))
    assert used.given == [["crashed"]] and used.phase is Phase.READY


# -- how many more --


def test_there_is_room_for_a_job_on_each_free_thread() -> None:
    scene = Scene(child(1, threads=3), child(2, threads=2), child(3, phase=Phase.STARTING), tasks=["slow"])
    assert scene.dispatcher.room() == 5
    scene.take(*jobs("slow", 4))
    assert scene.dispatcher.room() == 1
    scene.take(*jobs("slow", 9, start=4))
    assert scene.dispatcher.room() == 0


def test_there_is_room_for_async_jobs_if_all_are() -> None:
    scene = Scene(child(threads=1), tasks=["async"])
    assert scene.dispatcher.room() == 1 + ASYNC_JOBS
    scene.take(*jobs("async", ASYNC_JOBS + 5))
    assert scene.dispatcher.room() == 1  # the thread stands idle, and all five wait


def test_what_waits_for_a_child_that_starts_takes_its_room() -> None:
    one = child(phase=Phase.STARTING)
    scene = Scene(one, tasks=["async"])
    scene.take(*jobs("async", 5))
    assert scene.dispatcher.room() == 0
    one.enter(Phase.READY)
    assert scene.dispatcher.room() == 1 + ASYNC_JOBS - 5


def test_room_for_async_jobs_follows_the_share_they_had_of_late() -> None:
    scene = Scene(child(threads=1), tasks=["slow", "async"])
    assert scene.dispatcher.room() == 1 + ASYNC_JOBS // 2
    scene.take(*jobs("slow", 1))
    assert scene.dispatcher.room() == int(ASYNC_JOBS * 0.5 * 0.7)


# -- full --


def test_the_kind_whose_places_long_jobs_hold_is_full() -> None:
    one, two = child(1), child(2)
    scene = Scene(one, two)
    scene.take(*jobs("slow", 2))
    assert scene.dispatcher.full() == frozenset()  # they were taken just now
    long_ago(one)
    assert scene.dispatcher.full() == frozenset()
    long_ago(two)
    assert scene.dispatcher.full() == {"slow", "short"}
    one.pop("slow0")
    assert scene.dispatcher.full() == frozenset()


def test_async_places_fill_up_likewise() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*jobs("async", ASYNC_JOBS))
    assert scene.dispatcher.full() == frozenset()
    long_ago(one)
    assert scene.dispatcher.full() == {"async"}


def test_where_there_is_but_one_kind_it_is_never_left_alone() -> None:
    one = child()
    scene = Scene(one, tasks=["slow"])
    scene.take(*jobs("slow", 1))
    long_ago(one)
    assert scene.dispatcher.full() == frozenset()


def test_only_children_that_took_a_job_just_now_flow() -> None:
    sync, waiting, idle = child(1), child(2), child(3)
    scene = Scene(sync, waiting, idle)
    scene.take(*jobs("slow", 1), *jobs("async", 1))
    assert scene.dispatcher.flowing() == 1  # both went to the first
    long_ago(sync)
    assert scene.dispatcher.flowing() == 0


# -- tasks with a limit of their own --


def end(one: NotingChild, *ids: str) -> None:
    """These jobs have ended."""
    for job_id in ids:
        assert one.pop(job_id) is not None


def test_a_child_has_no_more_of_such_a_task_than_it_may_run() -> None:
    one, two = child(1), child(2)
    scene = Scene(one, two, tasks=["two", "async"])
    scene.take(*jobs("two", 6))
    assert one.given == [["two0", "two1"]] and two.given == [["two2", "two3"]] and scene.buffered == ["two4", "two5"]
    end(two, "two3")
    scene.dispatcher.dispatch()
    assert two.given[1:] == [["two4"]] and scene.buffered == ["two5"]


def test_what_waits_for_its_tasks_turn_lets_others_pass() -> None:
    one = child()
    scene = Scene(one, tasks=["two", "five", "async", "slow"])
    scene.take(*jobs("two", 4), *jobs("async", 2), *jobs("slow", 1), *jobs("five", 1))
    assert {job_id for frame in one.given for job_id in frame} == {"two0", "two1", "async0", "async1", "slow0", "five0"}
    assert scene.buffered == ["two2", "two3"]


def test_where_slots_are_scarce_the_order_of_the_queue_decides() -> None:
    one = child()
    scene = Scene(one, tasks=["five", "async"])
    scene.dispatcher.async_jobs = 3
    first, second, third, fourth = (
        claimed(name, task, priority=priority, seq=seq)
        for name, task, priority, seq in (
            ("a", "async", 1, 9),
            ("b", "five", 1, 12),
            ("c", "async", 0, 1),
            ("d", "five", 0, 2),
        )
    )
    scene.take(first, third, second, fourth)
    assert one.given == [["a"], ["b"], ["c"]] and scene.buffered == ["d"]


def test_jobs_that_follow_each_other_in_the_queue_share_a_frame() -> None:
    one = child()
    scene = Scene(one, tasks=["five", "async"])
    scene.take(*(claimed(f"j{seq}", "five" if seq < 3 else "async", seq=seq) for seq in range(6)))
    assert one.given == [["j0", "j1", "j2"], ["j3", "j4", "j5"]]


def test_a_task_is_closed_when_all_it_may_run_is_here() -> None:
    one, two = child(1), child(2)
    scene = Scene(one, two, tasks=["two", "async", "slow"])
    scene.take(*jobs("two", 3))
    assert scene.dispatcher.full() == frozenset()
    scene.take(*jobs("two", 1, start=3))
    assert scene.dispatcher.full() == {"two"}  # at once: how long these take is not known
    end(one, "two0")
    assert scene.dispatcher.full() == frozenset()
    two.enter(Phase.LEAVING)
    end(one, "two1")
    scene.take(*jobs("two", 2, start=4))
    assert scene.dispatcher.full() == {"two"}


def test_while_its_jobs_are_short_more_of_them_are_wanted() -> None:
    one = child()
    scene = Scene(one, tasks=["two", "async"])
    scene.dispatcher.tasks["two"].measured(1 / 128)
    scene.take(*jobs("two", 2))
    assert scene.dispatcher.full() == frozenset() and scene.dispatcher.most() == 25  # 256 a second, for a tenth of one
    scene.take(*jobs("two", 25, start=2))
    assert scene.dispatcher.full() == {"two"}
    end(one, "two0")
    scene.dispatcher.dispatch()
    assert scene.dispatcher.most() == 1
    scene.dispatcher.tasks["two"].given_at = time.monotonic() - LONG_AGO_S  # now one takes long
    assert scene.dispatcher.full() == {"two"}


def test_of_long_jobs_none_is_wanted_ahead() -> None:
    """They may all have begun at once, and what waits for their end would be given back before it."""
    scene = Scene(child(), tasks=["two", "five", "async"])
    for task, count in (("two", 2), ("five", 5)):
        scene.dispatcher.tasks[task].measured(2 * STUCK_S)
        scene.take(*jobs(task, count))
    assert scene.dispatcher.full() == {"two", "five"}


def test_a_claim_is_no_larger_than_what_may_start_of_it() -> None:
    one = child()
    scene = Scene(one, tasks=["two", "five", "async"])
    assert scene.dispatcher.most() == 2  # as if all were of that task
    scene.take(*jobs("two", 1), *jobs("async", 3))
    assert scene.dispatcher.tasks["two"].share == pytest.approx(0.775)  # less counts slowly
    assert scene.dispatcher.most() == math.ceil(1 / 0.775)
    scene.take(*jobs("two", 1, start=1))
    assert scene.dispatcher.tasks["two"].share == 1  # more at once
    assert scene.dispatcher.most() == math.ceil(5 / scene.dispatcher.tasks["five"].share)  # the other one is closed
    share = scene.dispatcher.tasks["two"].share
    scene.take(*jobs("async", 3, start=3), left_alone={"two"})
    assert scene.dispatcher.tasks["two"].share == share  # there could be none
    scene.take(*jobs("five", 5))
    assert scene.dispatcher.full() == {"two", "five"} and scene.dispatcher.most() == CLAIM_MAX


def test_where_all_tasks_are_closed_nothing_is_claimed() -> None:
    one = child()
    scene = Scene(one, tasks=["two", "five"])
    assert scene.dispatcher.room() == 1 + 7
    scene.take(*jobs("two", 2), *jobs("five", 5))
    assert scene.dispatcher.most() == 0
    end(one, "five1")
    assert scene.dispatcher.most() == 2  # five in seven were of this task


def test_a_full_kind_and_closed_tasks_are_everything_too() -> None:
    one = child()
    scene = Scene(one, tasks=["two", "slow"])
    scene.take(*jobs("two", 2), *jobs("slow", 1))
    assert scene.dispatcher.full() == {"two"} and scene.dispatcher.most() == CLAIM_MAX
    long_ago(one)
    assert scene.dispatcher.full() == {"two", "slow"} and scene.dispatcher.most() == 0


def test_one_that_crashed_takes_a_place_too() -> None:
    one = child()
    scene = Scene(one, tasks=["two"])
    scene.take(claimed("crashed", "two", crashes=1))
    assert one.async_runs.of_task == {"two": 1}
    end(one, "crashed")
    assert one.async_runs.of_task["two"] == 0


# -- giving back --


def aged(scene: Scene, *, sync: bool = True, async_: bool = True) -> None:
    """As if the buffer had stood still for a long time."""
    now, buffer = time.monotonic(), scene.dispatcher.buffer
    buffer.sync_since = now - LONG_AGO_S * sync
    for lane in buffer.lanes:
        lane.since = now - LONG_AGO_S * async_ if lane.jobs else 0.0


def blocked() -> Scene:
    """One slow and one async job wait, with every place taken."""
    scene = Scene(child())
    scene.take(*jobs("slow", 2), *jobs("async", ASYNC_JOBS + 1))
    assert scene.buffered == ["slow1", f"async{ASYNC_JOBS}"]
    return scene


def test_what_no_child_takes_for_a_while_is_given_back() -> None:
    scene = blocked()
    assert scene.dispatcher.stale() == []
    aged(scene)
    assert [job.id for job in scene.dispatcher.stale()] == ["slow1", f"async{ASYNC_JOBS}"]
    assert scene.buffered == [] and scene.dispatcher.stale() == []


def test_while_one_kind_flows_the_other_is_given_back() -> None:
    scene = blocked()
    aged(scene, async_=False)
    assert [job.id for job in scene.dispatcher.stale()] == ["slow1"]
    assert scene.buffered == [f"async{ASYNC_JOBS}"]


def test_while_one_task_flows_another_with_a_limit_is_given_back() -> None:
    scene = Scene(child(), tasks=["two", "five", "async"])
    scene.take(*jobs("two", 3), *jobs("five", 6))
    scene.take(*jobs("async", ASYNC_JOBS - 6))
    assert scene.buffered == ["async93", "two2", "five5"]
    scene.dispatcher.buffer.limited["two"].since = time.monotonic() - LONG_AGO_S
    assert [job.id for job in scene.dispatcher.stale()] == ["two2"]
    assert scene.buffered == ["async93", "five5"]


def test_a_job_that_leaves_the_buffer_shows_that_it_flows() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*jobs("slow", 3))
    aged(scene)
    one.pop("slow0")
    scene.dispatcher.dispatch()
    assert scene.dispatcher.stale() == [] and scene.buffered == ["slow2"]
    scene.take(*jobs("slow", 1, start=3))
    aged(scene)
    scene.dispatcher.dispatch()  # nothing left it this time
    assert [job.id for job in scene.dispatcher.stale()] == ["slow2", "slow3"]


def test_an_async_job_that_leaves_the_buffer_shows_the_same() -> None:
    one = child()
    scene = Scene(one)
    scene.take(*jobs("async", ASYNC_JOBS + 2))
    aged(scene)
    one.pop("async0")
    scene.dispatcher.dispatch()
    assert scene.dispatcher.stale() == [] and scene.buffered == [f"async{ASYNC_JOBS + 1}"]


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.LEAVING])
def test_nothing_is_given_back_while_a_child_is_about_to_take_it(phase: Phase) -> None:
    one, other = child(1), child(2, phase=phase)
    scene = Scene(one, other)
    scene.take(*jobs("slow", 2))
    aged(scene)
    assert scene.dispatcher.stale() == []
    other.enter(Phase.GONE)
    assert [job.id for job in scene.dispatcher.stale()] == ["slow1"]


def test_what_a_child_gives_back_comes_first_again_in_its_part() -> None:
    scene = blocked()
    buffer = scene.dispatcher.buffer
    for job, is_async in (("s", False), ("a", True)):
        buffer.take_back(Run(claimed(job, "async" if is_async else "slow"), is_async, None, 0.0))
    buffer.take_back(Run(claimed("c", "slow", crashes=1), False, None, 0.0))
    assert scene.buffered == ["c", "s", "slow1", "a", f"async{ASYNC_JOBS}"]
    assert len(buffer) == 5
    assert [job.id for job in buffer.clear_sync()] == ["c", "s", "slow1"]
    assert [job.id for job in buffer.clear()] == ["a", f"async{ASYNC_JOBS}"]
