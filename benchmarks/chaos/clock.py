"""A clock that can be set, for the processes that are started with it: theirs, not the machine's."""

import tempfile
from pathlib import Path

FOLDERS = ("usr/lib/*/faketime", "usr/lib*/faketime", "usr/local/lib/faketime")
SHIFTED = Path(__file__).parent / "shifted"


def libfaketime() -> Path | None:
    """Where it lies, if it is installed (Debian's package libfaketime)."""
    return next((path for folder in FOLDERS for path in Path("/").glob(f"{folder}/libfaketimeMT.so.1")), None)


class Clock:
    """Shows the true time plus an offset. `environment` is for a process that shall live by it; a context manager.

    With libfaketime everything in that process does, a PostgreSQL server too; without it what Python code reads.
    """

    def __init__(self, library: Path | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pgqueue-clock-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)  # a server runs as another account
        self._file = folder / "offset"
        self.set(0)
        if library is None:
            self.environment = {"PYTHONPATH": f"{SHIFTED}:{Path.cwd()}", "PGQUEUE_TEST_CLOCK": str(self._file)}
        else:
            self.environment = {
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self._file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }

    def set(self, offset_s: int) -> None:
        """Step it: so many seconds more, or less, than the truth."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}\n")
        new.replace(self._file)  # nobody reads half of it

    def __enter__(self) -> "Clock":
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
