"""What figures depend on besides the code that was measured."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pgqueue
from pgqueue.bench.bench import Bench


def surroundings(bench: Bench) -> dict[str, Any]:
    """The versions, the machine that measured, and the server's settings that its speed depends on most."""
    settings = bench.app.run(bench.app.queries.bench_settings())
    return machine() | {"server": {each.name: each.value for each in settings}, "repeat": bench.repeat}


def machine() -> dict[str, Any]:
    """The versions and the machine, of whatever is measured here now."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "pgqueue": pgqueue.__version__,
        "python": platform.python_version(),
        "psycopg": version("psycopg"),
        "system": platform.platform(),
        "cpu_count": os.cpu_count(),
    }
