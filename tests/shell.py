"""The command line as a person types it, without waiting a second for its imports each time.

A process that has imported everything forks for each command: that has a folder, an environment, standard streams and an exit
code of its own, and ends as every Python program does. What the interpreter itself reads when it starts (its options, the
encoding of its streams) makes a process of its own.
"""

import gc
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent
AT_START = "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "LC_ALL", "LANG", "PYTHONPATH"
STREAMS = "in", "out", "err"


class Shell:
    """Runs `python -m pgqueue ...`, or a script; closed by `close`."""

    def __init__(self) -> None:
        self._started: dict[tuple[object, ...], subprocess.Popen[str]] = {}

    def run(
        self,
        *words: str,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes = b"",
        options: Sequence[str] = (),
        within_s: float = 60,
        script: str | None = None,
        imported: Sequence[str] = (),
    ) -> "subprocess.CompletedProcess[bytes]":
        """As subprocess.run with these would; options are the interpreter's own.

        script: a file to run in place of `-m pgqueue`. imported: modules that it takes long to import.
        """
        process = self._process(env, options, imported)
        assert process.stdin is not None and process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "in").write_bytes(stdin)
            print(json.dumps([folder, str(cwd), dict(env), words, script]), file=process.stdin, flush=True)
            assert select.select([process.stdout], [], [], within_s)[0], f"{words} did not end in {within_s} s"
            code = int(process.stdout.readline())
            out, err = ((Path(folder) / name).read_bytes() for name in STREAMS[1:])
        return subprocess.CompletedProcess(words, code, out, err)

    def text(self, *words: str, dsn: str, cwd: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
        """`pgqueue ...` on a database, with warnings as errors; its output as text."""
        env = {**os.environ, "PGQUEUE_DSN": dsn, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environment}
        done = self.run(*words, cwd=cwd, env=env, options=["-W", "error"])
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    def _process(
        self, env: Mapping[str, str], options: Sequence[str], imported: Sequence[str]
    ) -> "subprocess.Popen[str]":
        key = (*options, *imported, *(env.get(name) for name in AT_START))
        if key not in self._started:
            self._started[key] = subprocess.Popen(
                [sys.executable, *options, __file__, *imported], env={**env, "PYTHONPATH": f"{ROOT}:{env.get('PYTHONPATH', '')}"},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
            )  # fmt: skip
        return self._started[key]

    def close(self) -> None:
        """End the processes."""
        for process in self._started.values():
            process.communicate()


def _serve() -> None:
    sys.path[0] = str(ROOT)  # the folders here have names of libraries
    from typer.testing import CliRunner

    from pgqueue.cli import cli

    for name in sys.argv[1:]:
        import_module(name)
    assert CliRunner().invoke(cli, ["jobs", "--limit", "many"]).exit_code == 2  # typer imports most of it only now
    gc.freeze()  # or each fork would copy it all when it ends
    with os.fdopen(os.dup(0), encoding="utf-8") as asked:
        while line := asked.readline():
            pid = os.fork()
            if not pid:
                return _become(*json.loads(line))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.write(1, f"{code}\n".encode())
    return None


def _become(folder: str, cwd: str, env: dict[str, str], words: list[str], script: str | None) -> None:
    for fd, name in enumerate(STREAMS):
        opened = os.open(Path(folder, name), os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, fd)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [script or "pgqueue", *words]
    if script is None:
        sys.path[0] = cwd
        runpy.run_module("pgqueue", run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _serve()
