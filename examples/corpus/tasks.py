"""The tasks of the corpus: measure one source file, and add up what a run has recorded.

Measuring and adding are plain functions, so that the driver can do the same without a queue and compare.
"""

import ast
import hashlib
import io
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from tenacity import wait_fixed

import pgqueue
from pgqueue import current_job, task

SOON = wait_fixed(0.2)  # seconds: the failures are ours and pass by themselves


@dataclass(frozen=True, order=True)
class Function:
    """A function and how many lines it has. Longer is larger; the rest of the order makes the longest one unique."""

    lines: int
    name: str
    path: str


@dataclass(frozen=True)
class Measurement:
    """What there is to know of one file. A file that is no valid Python has a problem, and no tokens or functions."""

    path: str
    sha256: str
    lines: int
    tokens: dict[str, int]
    longest: Function | None
    problem: str | None


@dataclass(frozen=True)
class Summary:
    """Many measurements in one. `sha256` is the hash of all files' hashes in the order of their paths."""

    files: int
    lines: int
    tokens: dict[str, int]
    longest: Function | None
    unreadable: list[str]
    sha256: str


class Recorded(NamedTuple):
    """What the queue says about one job of a run."""

    job_id: str
    state: str
    attempt: int
    measurement: Measurement | None


# -- without a queue --


def measure(path: Path) -> Measurement:
    """Read and measure one file; raises OSError if it cannot be read."""
    source = path.read_bytes()
    tokens: dict[str, int] = {}
    longest, problem = None, None
    try:
        tokens, longest = count_tokens(source), longest_function(source, path=str(path))
    except (SyntaxError, ValueError, tokenize.TokenError) as error:  # ValueError: undecodable, or a null byte
        tokens, problem = {}, f"{type(error).__name__}: {error}"
    lines = len(source.splitlines())
    return Measurement(str(path), hashlib.sha256(source).hexdigest(), lines, tokens, longest, problem)


def count_tokens(source: bytes) -> dict[str, int]:
    """How many tokens of each kind, by name."""
    kinds = Counter(token.type for token in tokenize.tokenize(io.BytesIO(source).readline))
    return {tokenize.tok_name[kind]: count for kind, count in sorted(kinds.items())}


def longest_function(source: bytes, *, path: str) -> Function | None:
    """The function with the most lines, decorators not counted."""
    with warnings.catch_warnings(action="ignore"):  # the corpus tests invalid escapes and the like on purpose
        tree = ast.parse(source)
    return max(
        (
            Function((node.end_lineno or node.lineno) - node.lineno + 1, node.name, path)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ),
        default=None,
    )


def add_up(measurements: Iterable[Measurement]) -> Summary:
    """The sum of measurements, whatever order they come in."""
    ordered = sorted(measurements, key=lambda each: each.path)
    tokens: Counter[str] = Counter()
    for each in ordered:
        tokens.update(each.tokens)
    return Summary(
        files=len(ordered),
        lines=sum(each.lines for each in ordered),
        tokens=dict(sorted(tokens.items())),
        longest=max((each.longest for each in ordered if each.longest), default=None),
        unreadable=[each.path for each in ordered if each.problem],
        sha256=hashlib.sha256("".join(each.sha256 for each in ordered).encode()).hexdigest(),
    )


# -- with one --


@task(queue="corpus", max_attempts=5, wait=SOON)
def measure_file(path: str, *, fail_before_attempt: int = 1) -> Measurement:
    """Measure one file; attempts before `fail_before_attempt` fail, to show what the queue does then."""
    attempt = current_job().attempt
    if attempt < fail_before_attempt:
        raise RuntimeError(f"attempt {attempt} fails because it was told to")
    return measure(Path(path))


@task(queue="corpus", atomic=True, max_attempts=3, wait=SOON)
def summarise(run_id: int) -> Summary:
    """Add up what a run has recorded. The sum is stored beside the run in the transaction that ends this job."""
    conn = current_job().conn
    summary = add_up(each.measurement for each in recorded(conn, run_id) if each.measurement)
    conn.execute("update corpus_run set summary = %s where id = %s", [Jsonb(asdict(summary)), run_id])
    return summary


RECORDED = sql.SQL("""
    select id::text, state::text, attempt, result
    from {jobs}
    where id = any ((select jobs from corpus_run where id = %s)::uuid[])
""")


def recorded(conn: psycopg.Connection[Any], run_id: int) -> list[Recorded]:
    """Every job of a run with its result, from the view that unites live and ended jobs."""
    query = RECORDED.format(jobs=sql.Identifier(pgqueue.app.config.schema, "jobs"))
    return [
        Recorded(job_id, state, attempt, _measurement(result))
        for job_id, state, attempt, result in conn.execute(query, [run_id])
    ]


def _measurement(result: str | None) -> Measurement | None:
    return cast("Measurement | None", measure_file.codec.decode_result(result))
