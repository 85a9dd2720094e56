"""A real worker for a test: another process, with children of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import ModuleType
from typing import Any, Self

from pgqueue.app import App
from pgqueue.client.handle import Job
from pgqueue.config import environment_with
from pgqueue.errors import ConfigError, PgQueueError
from pgqueue.job import State
from pgqueue.testing.faults import Fault
from pgqueue.testing.subject import subject
from pgqueue.testing.way import given_to
from pgqueue.testing.worker_app import WhatToRun

EVENT_S = 60.0  # for what takes a fraction of a second on a quiet machine
LOOK_S = 0.01


class WorkerProcess:
    """`pgqueue worker` for one App, with one child unless the options say -c; a context manager that stops it.

    options: as on the command line. fault: one that child_killed(), connection_lost() or answer_lost() gives. spec: where the App
    is, as `module:attribute`, if that is not found by itself.
    """

    def __init__(self, app: App, *options: str, fault: Fault | None = None, spec: str | None = None) -> None:
        self._app = app = subject(app)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        what = WhatToRun(spec or spec_of(app), _modules(app), app.dsn, _django_names(app), fault)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pgqueue.testing", "worker", "-A", "pgqueue.testing.worker_app:app", "-c", "1", *options],
            env={**environment_with(dsn=app.dsn, schema=app.config.schema), **what.environment(), **_where_modules_are()},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name="pgqueue tests", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as out:
            for line in out:
                self._heard(line)
        self._heard("")

    def _heard(self, line: str) -> None:
        with self._changed:
            self._lines += [line] if line else []
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """What it has said so far."""
        return "".join(self._lines)

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self._process.pid

    def said(self, text: str, *, within_s: float = EVENT_S) -> str:
        """Wait for a line of its log that contains this; raises PgQueueError if it does not come."""

        def found() -> str | None:
            return next((line for line in self._lines if text in line), None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or not self._reader.is_alive(), within_s)
            line = found()
        if line is None:
            raise PgQueueError(f"the worker did not say {text!r}, but:\n{self.output}")
        return line.rstrip("\n")

    def ready(self) -> Self:
        """Wait until it takes jobs."""
        self.said("is ready")
        return self

    def children(self) -> list[int]:
        """The process ids of its children."""
        told = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in told.stdout.split()]

    def kill_child(self, job: Job[Any]) -> None:
        """Wait until the job is claimed, and kill the process that runs it: all children, where there are several.

        The task may have begun or not: where that counts, let the test wait for what the task does first.
        """
        deadline = time.monotonic() + EVENT_S
        while job.state != State.RUNNING:
            if job.state.ended or time.monotonic() > deadline:
                raise PgQueueError(f"job {job.id} does not run: it is {job.state}\n{self.output}")
            time.sleep(LOOK_S)
        for pid in self.children():
            os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop, which lets jobs end; its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
        code = self._process.wait(EVENT_S)
        self._reader.join(EVENT_S)
        return code

    def kill(self) -> None:
        """End it as a crash would, its children too."""
        self._process.kill()
        self.stop()

    def __enter__(self) -> Self:
        return self.ready()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _modules(app: App) -> list[str]:
    """Those whose import defines its tasks; Django finds them itself, once it is set up."""
    return (
        [] if _is_in_django(app) else sorted({task.function.__module__ for task in app.tasks.values()} - {"__main__"})
    )


def _is_in_django(app: App) -> bool:
    return type(app._database._framework).__module__ == "pgqueue.contrib.django.project"


def _django_names(app: App) -> dict[str, str]:
    """Raises ConfigError inside of a TestCase."""
    if not _is_in_django(app):
        return {}
    from django.db import connections

    if given_to(app, None) is not None:
        raise ConfigError(
            "a worker does not see what a TestCase has not committed: take a TransactionTestCase, or drain() in this test"
        )
    return {alias: str(connections[alias].settings_dict["NAME"]) for alias in connections}


def spec_of(app: App) -> str:
    """Where a worker finds this App; raises ConfigError."""
    if _is_in_django(app):
        return "pgqueue.contrib.django.worker"
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and not name.startswith(("pgqueue", "__main__")):
            for attribute, value in list(vars(module).items()):
                if value is app:
                    return f"{name}:{attribute}"
    owners = [task.function.__module__ for task in app.tasks.values()]
    if _is_default(app) and owners:
        return owners[0]
    raise ConfigError("no module holds this App, so a worker cannot import it: say where, as in spec='shop.tasks:app'")


def _is_default(app: App) -> bool:
    import pgqueue

    return app is pgqueue.app


def _where_modules_are() -> dict[str, str]:
    """The worker imports what the test does."""
    return {"PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path), "PYTHONUNBUFFERED": "1"}
