"""The INSERT of a `defer` by pgbench, PostgreSQL's own load generator."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from benchmarks.bench import Bench
from pgqueue.bench import floor
from pgqueue.embedded import binaries
from pgqueue.errors import EmbeddedError
from pgqueue.queries import Statement

THREADS = 2  # of pgbench itself: each serves its share of the clients


def find() -> str | None:
    """Beside the programs that the embedded server would use, else on PATH; None when there is none."""
    try:
        beside: str | None = str(binaries.find().folder)
    except EmbeddedError:
        beside = None
    return (shutil.which("pgbench", path=beside) if beside else None) or shutil.which("pgbench")


def rate(bench: Bench, program: str, *, clients: int, seconds: float) -> float:
    """Jobs a second of so many clients together, without the time they take to connect."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "defer.sql")
        file.write_text(script(floor.insert_statement(bench.app)), "utf-8")
        command = [
            program, "--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={min(THREADS, clients)}",
            f"--time={max(1, round(seconds))}", f"--file={file}",
        ]  # fmt: skip
        dsn, password = _without_password(bench.app.dsn)
        environment = os.environ | ({"PGPASSWORD": password} if password else {})
        done = subprocess.run([*command, dsn], env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.M)
    if done.returncode or found is None:
        raise RuntimeError(f"pgbench: {done.stderr.strip() or done.stdout.strip()}")
    return float(found[1])


def script(statement: Statement) -> str:
    """The statement's own text for pgbench: the server makes the id, all else is written out, as each job has the same."""
    values = {name: _literal(value) for name, value in statement.params.items()} | {"id": "gen_random_uuid()"}
    return f"{statement.sql % values};\n"


def _literal(value: Any) -> str:
    return sql.Literal(value).as_string(None)


def _without_password(dsn: str) -> tuple[str, str | None]:
    """Everybody on the machine may read a command line."""
    parts = conninfo_to_dict(dsn)
    password = parts.pop("password", None)
    return make_conninfo("", **parts), None if password is None else str(password)
