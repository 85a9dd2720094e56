"""All children of one worker: kept alive, listened to, timed, and their jobs settled when one of them dies."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pgqueue.errors import ConfigError
from pgqueue.job import Claimed, Outcome, Verdict
from pgqueue.terminal import escape
from pgqueue.worker.link.greeting import AppFacts, ChildSetup
from pgqueue.worker.settings import CRASH_CAP, EXIT_S, HARD_GRACE_S, START_TRIES, STUCK_S, TICK_S, Settings
from pgqueue.worker.supervisor.buffer import Buffer
from pgqueue.worker.supervisor.cancels import Cancels
from pgqueue.worker.supervisor.child_handle import ChildHandle, Phase, Run
from pgqueue.worker.supervisor.demand import WorkDone
from pgqueue.worker.supervisor.dispatch import Dispatcher, TaskProfile
from pgqueue.worker.supervisor.outcome_queue import OutcomeQueue
from pgqueue.worker.supervisor.restarts import RestartPacing
from pgqueue.worker.supervisor.timed_out import TimedOutJobs
from pgqueue.worker.supervisor.waits import Waits
from pgqueue.worker.supervisor.wakeups import Wakeups

logger = logging.getLogger("pgqueue.worker")


class Children:
    """All children of one worker. `hello` is what the first of them says; an exception if none can ever start."""

    def __init__(self, settings: Settings, outcome_queue: OutcomeQueue, wakeups: Wakeups) -> None:
        self._settings = settings
        self._outcome_queue = outcome_queue
        self._wakeups = wakeups
        self.children: list[ChildHandle] = []
        self._dispatcher = Dispatcher(self.children)
        self.hello: asyncio.Future[AppFacts] = asyncio.get_running_loop().create_future()
        self._setup: ChildSetup
        self._keepers: list[asyncio.Task[None]] = []
        self._timed_out = TimedOutJobs(self.children, outcome_queue)
        self.cancels = Cancels(self.children)
        self._waits = Waits(self.children)
        self._stopping = False
        self._restarts = RestartPacing()
        self._work = asyncio.Event()  # set while there is anything to look after
        self.work_done = WorkDone()

    # -- processes --

    def start(self, setup: ChildSetup) -> None:
        """Start all children; `hello` is set by the first that is ready."""
        self._setup = setup
        self._keepers = [asyncio.create_task(self._keep(number)) for number in range(self._settings.concurrency)]

    async def _keep(self, number: int) -> None:
        """Keep one child alive: start a child, wait for its end, settle its jobs, start the next."""
        failures = spoiled = 0
        while not self._stopping:
            child = ChildHandle(number, threads=self._settings.threads, heard=self._heard)
            self.children.append(child)
            await self._live(child)
            self.children.remove(child)
            self._settle(child)
            ending = child.ending
            failures = 0 if child.started else failures + 1
            spoiled = spoiled + 1 if ending.fruitless else 0
            if not failures or self._stopping:
                await self._restarts.rest(spoiled)
                continue
            reason = ending.reason or f"it {child.process.death()} while importing the app"
            if not self._welcomed and (ending.unrecoverable or failures >= START_TRIES):
                self._give_up(reason if ending.unrecoverable else f"no child started in {failures} tries: {reason}")
                return
            logger.error("child %d failed to start: %s", number, reason)
            await self._restarts.back_off(failures)

    async def _live(self, child: ChildHandle) -> None:
        """One child from its start to its end."""
        try:
            await child.process.launch(self._setup)
        except OSError as error:  # no memory, no descriptors, too many processes
            child.ending.reason = f"cannot start another process ({error.strerror}): raise the limit, or lower -c"
            return
        if self._stopping:
            child.process.kill()
        await child.ended(start_s=self._restarts.limit_s)

    def _give_up(self, reason: str) -> None:
        """Nothing ever started, and further tries would hide it from the user who started this worker."""
        if not self.hello.done():
            self.hello.set_exception(ConfigError(reason))

    def _settle(self, child: ChildHandle) -> None:
        """Say what becomes of the jobs of a child that has ended."""
        for run in list(child.runs):
            self._settle_lost(child, run)
        self._timed_out.ended(child)
        child.process.close()
        self.dispatch()
        self._changed()

    def _settle_lost(self, child: ChildHandle, run: Run) -> None:
        ending = child.ending
        if run.job.id == ending.timed_out:
            self._timed_out.add(run.job, f"the task ran longer than its timeout of {run.timeout_s:g} s and was killed")
        elif ending.timed_out is not None or ending.by_force or self._stopping or not child.was_running(run):
            self._release([run.job])
        else:
            self._outcome_queue.deliver([_crash(run.job, child.process.death())])

    # -- what children say --

    def _heard(self, child: ChildHandle, message: list[Any]) -> None:
        match message:
            case ["done", done, rss_mb]:
                self._done(child, done, rss_mb)
            case ["replace_me", why, useful]:
                logger.warning("child %d %s and is replaced", child.number, why)
                child.ending.fruitless = not useful
                child.leave()
            case ["returned", ids]:
                self._returned(child, ids)
            case ["progress", job_id, token, fraction, note]:
                self._outcome_queue.report(job_id, token, fraction, note)
            case ["waits", task, awaited]:
                self._waits.heard(task, awaited)
            case ["hello", hello]:
                self._welcome(child, AppFacts.from_json(hello))
            case ["failed", reason, trace]:
                child.ending.reason = reason
                child.ending.unrecoverable = True
                if trace and not self._welcomed:
                    sys.stderr.write(escape(trace))

    def _welcome(self, child: ChildHandle, facts: AppFacts) -> None:
        child.enter(Phase.READY)
        self._restarts.started(time.monotonic() - child.born_at)
        self._dispatcher.async_jobs = self._settings.async_jobs or facts.config["async_jobs"]
        self._dispatcher.learn(
            {
                name: TaskProfile(is_async=task.is_async, timeout_s=task.timeout_s, async_limit=task.async_limit)
                for name, task in facts.tasks.items()
            }
        )
        if not self.hello.done():
            self.hello.set_result(facts)
        self._timed_out.ask()
        self.dispatch()
        self._changed()

    @property
    def _welcomed(self) -> bool:
        """Some child has said its hello."""
        return self.hello.done() and not self.hello.cancelled() and self.hello.exception() is None

    def _changed(self) -> None:
        """There may be room, or for other tasks than before."""
        self._wakeups.capacity.set()
        if (left_alone := self._wakeups.left_alone) and self.full() != left_alone:
            self._wakeups.doorbell.set()  # what was left alone may start: sleep no longer

    def _done(self, child: ChildHandle, done: list[Any], rss_mb: float) -> None:
        if not child.empty:  # else it was only asked for its policy
            self.work_done.busy_s += child.take_busy_s()
            self.work_done.finished += len(done)
        outcomes, tasks = [], self.tasks
        for fields, run_us in done:
            outcome = Outcome(*fields)
            run = child.pop(outcome.job_id)
            if run is None:
                if not self._timed_out.answered(outcome.job_id):
                    continue  # it has no say in this job (any more): we were declared dead, and start over
            elif (profile := tasks.get(run.job.task)) is not None:
                profile.measured(run_us / 1e6)
            outcomes.append(outcome)
        child.mark_started()
        child.done_count += len(done)
        self._outcome_queue.deliver(outcomes)
        self._retire_if_due(child, rss_mb)
        child.end_if_done()
        self.dispatch()
        self._changed()

    def _retire_if_due(self, child: ChildHandle, rss_mb: float) -> None:
        limits = self._settings
        worn = limits.max_tasks_per_child is not None and child.done_count >= limits.max_tasks_per_child
        heavy = limits.max_memory_per_child_mb is not None and rss_mb > limits.max_memory_per_child_mb
        if (worn or heavy) and child.phase is Phase.READY:
            logger.info("child %d is replaced after %d jobs, at %.0f MB", child.number, child.done_count, rss_mb)
            child.leave()

    def _returned(self, child: ChildHandle, ids: list[str]) -> None:
        child.asked_back = False
        for job_id in reversed(ids):
            if run := child.pop(job_id):
                self.buffer.take_back(run)
        if ids and not self.buffer.sync_since:
            self.buffer.sync_since = child.moved_at  # they have waited since then
        child.end_if_done()
        if self._stopping:
            self.release_buffer()
        self.dispatch()
        self._changed()

    # -- jobs --

    def running(self) -> dict[str, Run]:
        """Every job that a child has, by id."""
        return {run.job.id: run for child in self.children for run in child.runs}

    def holds(self) -> set[str]:
        """The ids of every job in this worker's hands: given, buffered or timed out."""
        return self.running().keys() | {job.id for job in self.buffer} | self._timed_out.ids()

    @property
    def buffer(self) -> Buffer:
        """Jobs claimed and not yet given to a child."""
        return self._dispatcher.buffer

    @property
    def tasks(self) -> dict[str, TaskProfile]:
        """The tasks of the app, by name, as the children know them."""
        return self._dispatcher.tasks

    def take(self, jobs: Iterable[Claimed]) -> None:
        """Jobs just claimed."""
        self._dispatcher.take(jobs, left_alone=self._wakeups.left_alone)
        self._work.set()

    def room(self) -> int:
        """How many more jobs could start at once."""
        return self._dispatcher.room()

    def most(self) -> int:
        """How many jobs one claim may bring."""
        return self._dispatcher.most()

    def full(self) -> frozenset[str]:
        """Tasks that are not worth to be claimed while others are."""
        return self._dispatcher.full()

    def flowing(self) -> int:
        """How many children took a job just now."""
        return self._dispatcher.flowing()

    def dispatch(self) -> None:
        """Give as many buffered jobs to children as may start."""
        if not self._stopping:
            self._dispatcher.dispatch()

    # -- time --

    async def tick(self) -> None:
        """Check running jobs, again and again: time limits, and jobs stuck behind others. Asleep while nothing runs."""
        while True:
            if self.idle:
                self._work.clear()
                await self._work.wait()
            await asyncio.sleep(TICK_S)
            self.check_limits()

    def check_limits(self) -> None:
        """Check everything that runs, once."""
        now = time.monotonic()
        for child in list(self.children):
            if len(child.sync_runs) > child.threads and now - child.moved_at > STUCK_S and not child.asked_back:
                child.ask_back()
            for run in list(child.runs):
                if run.timeout_s is not None and run.started_at is not None:
                    self._limit(child, run, now)
        self._release(self._dispatcher.stale())
        if self._wakeups.shut:
            self._park(self.buffer.take_out(self._wakeups.shut))
        self.cancels.enforce(now)

    def release_buffer(self) -> None:
        """Give back what has not started."""
        self._release(self.buffer.clear())

    def _release(self, jobs: Iterable[Claimed]) -> None:
        if jobs:
            self._outcome_queue.deliver([Outcome(job.id, job.token, Verdict.RELEASE) for job in jobs])

    def _park(self, jobs: Iterable[Claimed]) -> None:
        if jobs:
            self._outcome_queue.deliver([Outcome(job.id, job.token, Verdict.PARK) for job in jobs])

    def _limit(self, child: ChildHandle, run: Run, now: float) -> None:
        assert run.started_at is not None and run.timeout_s is not None
        if run.soft_at is None and now - run.started_at > run.timeout_s:
            run.soft_at = now
            child.send("soft_limit", run.job.id)
        elif run.soft_at is not None and now - run.soft_at > HARD_GRACE_S and child.ending.timed_out is None:
            logger.warning(
                "job %s (%s) did not end %g s after its timeout; its child is killed",
                run.job.id, run.job.task, HARD_GRACE_S,
            )  # fmt: skip
            child.ending.timed_out = run.job.id
            child.process.kill()

    # -- the end --

    def abandon(self, *, worker: str, application_name: str) -> None:
        """Nothing here is ours any more: end all children, settle nothing, start over under a new identity."""
        self._setup = replace(self._setup, worker=worker, application_name=application_name)
        self.buffer.clear()
        self._timed_out.clear()
        for child in self.children:
            child.forget()
            child.process.kill()

    def recall(self) -> None:
        """Take back everything that has not started."""
        self._stopping = True
        self.release_buffer()
        for child in self.children:
            child.ask_back()

    @property
    def idle(self) -> bool:
        """Nothing given, nothing buffered, nothing timed out."""
        return not self.buffer and not self._timed_out.ids() and all(child.empty for child in self.children)

    async def stop(self) -> None:
        """End all children: politely those that have nothing to do, the others by force."""
        self._stopping = True
        self._restarts.hurry()
        for child in self.children:
            if child.answers and child.empty:
                child.leave()
            else:
                child.process.kill()
        if self._keepers:
            _, late = await asyncio.wait(self._keepers, timeout=EXIT_S + 2)
            for child in self.children:
                child.process.kill()
            if late:
                await asyncio.wait(late)
        self._release(self._timed_out.clear())


def _crash(job: Claimed, death: str) -> Outcome:
    crashes = job.crashes + 1
    if crashes >= CRASH_CAP:
        error = f"quarantined: its process died {crashes} times while running it; the last one {death}"
        return Outcome(job.id, job.token, Verdict.QUARANTINE, cause="crash", error=error)
    return Outcome(job.id, job.token, Verdict.CRASH, cause="crash", error=f"the process running it {death}")
