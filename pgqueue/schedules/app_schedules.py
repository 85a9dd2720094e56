"""The schedules of one App: declared in code, at import, and told to the workers with the marks of secret arguments."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pgqueue.client.enqueue import Call
from pgqueue.client.options import Options, check_name
from pgqueue.codec.calls import encode_plain
from pgqueue.codec.redact import MARKS
from pgqueue.errors import ConfigError, InvalidOption
from pgqueue.gates.limit import MOST_GATES
from pgqueue.schedules import TIMING
from pgqueue.schedules.schedule import Schedule, overlap_of
from pgqueue.task import AnyTask, Task

MAX_CALL_BYTES = 1_000_000  # of arguments; settings are not read at import


class AppSchedules:
    """See App.schedule. `declared` holds what the code declares, by name."""

    def __init__(self, tasks: Mapping[str, AnyTask]) -> None:
        self.declared: dict[str, Schedule] = {}
        self._tasks = tasks

    def declare(
        self,
        name: str,
        task: AnyTask | str,
        args: Iterable[Any],
        kwargs: Mapping[str, Any] | None,
        said: Mapping[str, Any],
    ) -> None:
        """As App.schedule; said: when, and the options of the jobs."""
        timing, given = _parted(said)
        called, options = _named(task, self._tasks)
        where = f"schedule {name}"
        made = Schedule.make(
            name,
            task=called,
            call=_call(where, task, args, kwargs),
            options=Options.make(where, **given).over(options),
            **timing,
        )
        self._check_turns(made, task if isinstance(task, Task) else self._tasks.get(called))
        if self.declared.get(made.name, made) != made:
            raise ConfigError(f"two schedules have the name {made.name}: give one of them another")
        self.declared[made.name] = made

    def of_task(self, task: AnyTask, timing: Mapping[str, Any]) -> None:
        """As @task(cron=...): of the task's name, without arguments."""
        try:
            call = task.codec.encode((), {}, max_bytes=MAX_CALL_BYTES)
        except TypeError as error:
            raise InvalidOption(
                f"@task {task.name}: cron= and every= call it without arguments, and {error}; "
                "write app.schedule(name, task, args=[...])"
            ) from None
        made = Schedule.make(task.name, task=task.name, call=call, options=task.defaults, **timing)
        self._check_turns(made, task)
        self.declared[made.name] = made

    def made(self) -> list[Schedule]:
        """All of them, with the headers that say which arguments are secret."""
        return [self._marked(schedule) for schedule in self.declared.values()]

    def _check_turns(self, schedule: Schedule, task: AnyTask | None) -> None:
        """That its jobs wait for each other is a gate of theirs, and their first."""
        if task is None or overlap_of(schedule.overlap, schedule.options) != "queue":
            return
        gates = task.limits.gates
        if any(gate.rule.keeps for gate in gates):
            raise InvalidOption(
                f"schedule {schedule.name}: the task {task.name} is ordered, so its jobs wait for each other anyway: write "
                "overlap='allow'"
            )
        if len(gates) >= MOST_GATES:
            names = ", ".join(gate.rule.name for gate in gates)
            raise InvalidOption(
                f"schedule {schedule.name}: overlap='queue' is a limit too, and a job passes at most two; the task {task.name} "
                f"has {names}"
            )

    def _marked(self, schedule: Schedule) -> Schedule:
        task = self._tasks.get(schedule.task)
        if task is None or not task.marks:
            return schedule
        said = json.loads(schedule.options)
        said["headers"] = {**said.get("headers", {}), MARKS: list(task.marks)}
        return replace(schedule, options=json.dumps(said, ensure_ascii=False))


def timing_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take what says when out of the options of @task. Raises InvalidOption for what says how without saying when."""
    timing = {name: options.pop(name) for name in TIMING & options.keys()}
    timing = {name: value for name, value in timing.items() if value is not None}
    if timing and not timing.keys() & {"cron", "every"}:
        raise InvalidOption(f"@task: {', '.join(sorted(timing))} needs cron= or every=, which say when it runs")
    return timing


def _parted(said: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return {name: said[name] for name in said if name in TIMING}, {
        name: said[name] for name in said if name not in TIMING
    }


def _named(task: AnyTask | str, tasks: Mapping[str, AnyTask]) -> tuple[str, Options]:
    """The task's name, and what its jobs say where the schedule does not."""
    if isinstance(task, Task):
        return task.name, task.defaults
    known = tasks.get(name := check_name("task", task))
    return name, known.defaults if known else Options()


def _call(where: str, task: AnyTask | str, args: Iterable[Any], kwargs: Mapping[str, Any] | None) -> Call:
    if isinstance(args, str | bytes | Mapping):
        raise InvalidOption(f"{where}: args takes a list, not a {type(args).__name__}; write args=[...]")
    if isinstance(task, Task):
        return task.codec.encode(tuple(args), dict(kwargs or {}), max_bytes=MAX_CALL_BYTES)
    return (
        encode_plain(list(args), path=f"{where}: args", max_bytes=MAX_CALL_BYTES),
        encode_plain(dict(kwargs or {}), path=f"{where}: kwargs", max_bytes=MAX_CALL_BYTES),
    )
