"""Start `python -m pgqueue` without waiting for its imports: a process that has imported everything forks for each start.

What is started is a process as any other: a session, a folder, an environment and signals of its own; it ends as every Python
program does, and the processes that it starts itself import on their own. What the interpreter reads at its start makes a real
start, and so does a thread in a namespace of its own, as one that shows its child another /etc/hosts.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, TypeAlias

ROOT = Path(__file__).parent.parent
AT_START = "PYTHON", "LD_", "LC_", "LANG", "TZ", "PSYCOPG"  # how names of variables begin that are read once
MOST = 1 << 18  # bytes of an environment and a command line


class Forked:
    """As the Popen of a process whose output and errors are one pipe."""

    def __init__(self, source: "Source", pid: int, stdout: IO[str]) -> None:
        self._source = source
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._source.ended(self.pid, within_s=0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises TimeoutExpired."""
        deadline = time.monotonic() + (threading.TIMEOUT_MAX if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self._source.heard(within_s=0.05)  # a short one: another thread may hear of our end
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Source:
    """The process that forks."""

    def __init__(self, start: Sequence[str | None]) -> None:
        self.start = start  # what its interpreter read
        self.namespaces = _namespaces()
        self._lock = threading.RLock()
        self._codes: dict[int, int] = {}
        self._pids: list[int] = []
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A pipe, as what is forked has: a stream of Python knows from its start whether it is one.
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                pass_fds=[theirs.fileno()], cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        atexit.register(self.close)

    def fork(self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Forked:
        """Start `python -m pgqueue` with these words."""
        theirs, ours = os.pipe()
        with self._lock:
            socket.send_fds(self._ours, [json.dumps([list(words), str(cwd), dict(env)]).encode()], [ours])
            os.close(ours)
            while not self._pids:
                assert self.heard(within_s=60), "nothing was started"
            pid = self._pids.pop()
        return Forked(self, pid, os.fdopen(theirs, encoding=sys.getdefaultencoding()))

    def ended(self, pid: int, *, within_s: float) -> int | None:
        """Its exit code, once."""
        with self._lock:
            while self.heard(within_s=within_s):
                pass
            return self._codes.pop(pid, None)

    def heard(self, *, within_s: float) -> bool:
        """Take the next message, if one comes in time."""
        if not select.select([self._ours], [], [], within_s)[0]:
            return False
        with self._lock:
            if not select.select([self._ours], [], [], 0)[0]:  # another thread has it
                return True
            kind, pid, code = json.loads(self._ours.recv(MOST) or self._dead())
            if kind == "started":
                self._pids.append(pid)
            else:
                self._codes[pid] = code
            return True

    def _dead(self) -> bytes:
        output, _ = self._process.communicate()
        raise RuntimeError(f"the process that forks has ended: {output}")

    def close(self) -> None:
        """What was started runs on."""
        self._ours.close()
        self._process.communicate()


Process: TypeAlias = "Forked | subprocess.Popen[str]"
_sources: list[Source] = []


def start(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Process:
    """`python -m pgqueue ...`, in a session of its own."""
    if not _sources:
        _sources.append(Source(_read_at_start({**os.environ, "PYTHONPATH": str(ROOT)})))
    if _read_at_start(env) != _sources[0].start or _namespaces() != _sources[0].namespaces:
        return launch(command, cwd=cwd, env=env)
    return _sources[0].fork(command[3:], cwd=cwd, env=env)


def launch(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Process:
    """Any command, by a real start."""
    return subprocess.Popen(
        command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def _namespaces() -> list[str]:
    """Those that a process gets which this thread starts; none where there is no /proc."""
    folder = Path("/proc/thread-self/ns")
    return [str((folder / name).readlink()) for name in ("mnt", "net")] if folder.exists() else []


def _read_at_start(env: Mapping[str, str]) -> list[str | None]:
    names = sorted(name for name in env if name.startswith(AT_START) and name != "PYTHONUNBUFFERED")
    return [part for name in names for part in (name, env[name])]


# -- the process that forks --


def _serve(asked: socket.socket) -> None:
    sys.path[0] = str(ROOT)  # the folders here have names of libraries
    from typer.testing import CliRunner

    from pgqueue.cli import cli

    import_module("pgqueue.worker.supervisor.supervisor")
    assert (
        CliRunner().invoke(cli, ["worker", "--concurrency", "many"]).exit_code == 2
    )  # typer imports most of it only now
    gc.freeze()  # or each fork would copy it all
    heard, woken = socket.socketpair()
    heard.setblocking(False)
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([asked, heard], [], [])
        if asked in ready:
            request, fds, _, _ = socket.recv_fds(asked, MOST, 1)
            if not request:
                return None
            if not os.fork():
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.setsid()
                asked.send(json.dumps(["started", os.getpid(), 0]).encode())
                for sock in asked, heard, woken:
                    sock.close()
                return _become(fds[0], *json.loads(request))
            os.close(fds[0])
        if heard in ready:
            heard.recv(65_536)
            while ended := _next_end():
                asked.send(json.dumps(["ended", *ended]).encode())


def _next_end() -> tuple[int, int] | None:
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def _become(output: int, words: list[str], cwd: str, env: dict[str, str]) -> None:
    for fd in 1, 2:
        os.dup2(output, fd)
    os.close(output)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["pgqueue", *words]
    sys.path[0] = cwd
    runpy.run_module("pgqueue", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
