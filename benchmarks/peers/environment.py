"""Where a peer's own libraries are: our own environment, a virtual environment or a node_modules folder of the peer's."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

FOLDER = Path(__file__).parent / ".envs"
NEWEST_MINOR = 15  # of Python 3, that is looked for on PATH
PYENV = Path.home() / ".pyenv" / "versions"
INSTALL_S = 600.0  # a package index that answers slowly is waited for; one that hangs is not


class Environment(Protocol):
    """interpreter runs the peer's program; scripts is where the commands are that its packages bring."""

    @property
    def interpreter(self) -> Path: ...

    @property
    def variables(self) -> dict[str, str]: ...

    def script(self, name: str) -> str: ...

    def install(self) -> None:
        """Bring the packages, if they are not there. Raises RuntimeError with what the installer said last."""

    def versions(self) -> dict[str, str]:
        """What is installed, by package."""


@dataclass(frozen=True)
class Own:
    """The environment that this runs in: pgqueue's own."""

    @property
    def interpreter(self) -> Path:
        return Path(sys.executable)

    @property
    def variables(self) -> dict[str, str]:
        return {}

    def script(self, name: str) -> str:
        return str(self.interpreter.parent / name)

    def install(self) -> None:
        """Whoever runs this has it."""

    def versions(self) -> dict[str, str]:
        return _python_versions(self.interpreter)


@dataclass(frozen=True)
class Python:
    """A virtual environment with exactly these packages: `requirements` names each with its version.

    least: the oldest Python that they run on, if not the one that runs this; one on PATH is taken then.
    """

    name: str
    requirements: Sequence[str]
    least: tuple[int, int] = (3, 11)

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def variables(self) -> dict[str, str]:
        return {}

    def script(self, name: str) -> str:
        return str(self.interpreter.parent / name)

    def install(self) -> None:
        """Two processes that want it wait for one another: the later one finds it made."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        with (FOLDER / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_current(self.folder, self.requirements):
                self._make()

    def _make(self) -> None:
        python = _python(self.least)
        # Debian's own comes without ensurepip, so our pip fills it. It may be too old for another version: pip 23.0 breaks on 3.12.
        ours = python == sys.executable
        _run([python, "-m", "venv", "--clear", *(["--without-pip"] if ours else []), str(self.folder)])
        pip = (
            [sys.executable, "-m", "pip", "--python", str(self.interpreter)]
            if ours
            else [str(self.interpreter), "-m", "pip"]
        )
        _run([*pip, "--disable-pip-version-check", "--quiet", "install", *self.requirements])
        _mark(self.folder, self.requirements)

    def versions(self) -> dict[str, str]:
        return _python_versions(self.interpreter)


@dataclass(frozen=True)
class Node:
    """A node_modules folder with exactly these packages, for the `node` on PATH."""

    name: str
    requirements: Sequence[str]

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def interpreter(self) -> Path:
        return Path(_on_path("node"))

    @property
    def variables(self) -> dict[str, str]:
        # Our program lies elsewhere; CommonJS looks here for what it requires.
        return {"NODE_PATH": str(self.folder / "node_modules"), "NODE_ENV": "production"}

    def script(self, name: str) -> str:
        return str(self.folder / "node_modules" / ".bin" / name)

    def install(self) -> None:
        if _is_current(self.folder, self.requirements):
            return
        npm = _on_path("npm")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        quiet = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        _run([npm, "install", "--prefix", str(self.folder), *quiet, *self.requirements])
        _mark(self.folder, self.requirements)

    def versions(self) -> dict[str, str]:
        listed = json.loads(_run([_on_path("npm"), "ls", "--json", "--prefix", str(self.folder)]))
        found = {name: each["version"] for name, each in listed["dependencies"].items()}
        return found | {"node": _run([str(self.interpreter), "--version"]).strip()}


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"there is no `{name}` on PATH")
    return found


LISTED = """
import json
from importlib.metadata import distributions
print(json.dumps({each.metadata["Name"]: each.version for each in distributions()}))
"""


def _python(least: tuple[int, int]) -> str:
    """The running interpreter, or the newest on PATH or of pyenv that is new enough."""
    if sys.version_info >= least:
        return sys.executable
    for minor in range(NEWEST_MINOR, least[1] - 1, -1):
        on_path = shutil.which(f"python3.{minor}")
        of_pyenv = sorted(map(str, PYENV.glob(f"3.{minor}.*/bin/python3")), reverse=True)
        for found in [*([on_path] if on_path else []), *of_pyenv]:
            # A shim of pyenv is on PATH for every version it has, and works for the chosen ones only.
            if subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
                return found
    raise RuntimeError(f"it needs Python {least[0]}.{least[1]} or later; this is {platform.python_version()}")


def _python_versions(interpreter: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(_run([str(interpreter), "-c", LISTED]))
    return found | {"python": _run([str(interpreter), "--version"]).split()[1]}


def _is_current(folder: Path, requirements: Sequence[str]) -> bool:
    marker = folder / "installed"
    return marker.is_file() and marker.read_text().split("\n") == list(requirements)


def _mark(folder: Path, requirements: Sequence[str]) -> None:
    """Written last: an installation that was cut short is made anew."""
    (folder / "installed").write_text("\n".join(requirements))


def _run(command: Sequence[str]) -> str:
    environment = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_S,
        stdin=subprocess.DEVNULL,
        env=environment,
    )
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if "ERROR" in line or "error" in line]
        raise RuntimeError((said or [f"{command[0]} ended with {done.returncode}"])[-1][:300])
    return done.stdout
