"""What happened, written down outside of the faulted database: one JSON object a line, one file per writing process.

Written with a single write(2) to a file opened for appending: what the kernel has taken survives the death of the writer,
whoever kills it. (A power cut of the machine itself is not among the faults.)
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Ledger:
    """Appends records of one process. `kind` says what each is about; `t` is the wall clock, in seconds."""

    def __init__(self, folder: Path, name: str) -> None:
        self._fd = os.open(folder / f"{name}-{os.getpid()}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, kind: str, **record: Any) -> None:
        """One line; safe from several threads."""
        os.write(self._fd, json.dumps({"kind": kind, "t": time.time(), **record}).encode() + b"\n")


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Every record of every process, file by file."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n"):  # else its writer was killed in the middle
                    yield json.loads(line)
