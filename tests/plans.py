"""How the server ran a statement: which tables and indexes it read, and how many blocks that took."""

import re
from typing import Any

import psycopg

from benchmarks.session import blocks, top
from pgqueue import db
from pgqueue.queries import Row, Statement

# history_succeeded_20250131_id_idx and its like: the same index in another partition.
PARTITION = re.compile(r"_(succeeded|ended)(_rest|_\d{8})?")
FEW = 100  # rows: a small table is read as a whole, rightly


class Plan:
    """The plan of a statement, after it ran once. node: its topmost."""

    def __init__(self, node: dict[str, Any]) -> None:
        self.blocks = blocks(node)
        self._nodes = list(_nodes(node))

    @property
    def scanned(self) -> set[str]:
        """Tables that were read row by row, and were not small."""
        return {
            node["Relation Name"] for node in self._nodes if node["Node Type"] == "Seq Scan" and _passed(node) > FEW
        }

    @property
    def parallel(self) -> bool:
        """Whether it starts processes: they read on until they hear that enough was found."""
        return any(node["Node Type"].startswith("Gather") for node in self._nodes)

    @property
    def indexes(self) -> set[str]:
        """Those of the jobs and their history that were read at least once."""
        names = {node["Index Name"] for node in self._nodes if "Index Name" in node and node["Actual Loops"]}
        return {PARTITION.sub("", name) for name in names if name.startswith(("job_", "history_"))}


def fresh(conn: psycopg.Connection, statement: Statement[Any]) -> Plan:
    """As the server plans it now, for these parameters; undone."""
    explain: Statement[Row] = Statement(
        f"explain (analyze, buffers, timing off, format json) {statement.sql}", statement.params
    )
    with conn.transaction(force_rollback=True):
        (row,) = db.run(conn, explain)
    return Plan(top(row))


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(each for child in node.get("Plans", []) for each in _nodes(child))]


def _passed(node: dict[str, Any]) -> int:
    """How many rows it looked at, in all its turns: the plan tells the mean of a turn."""
    of_a_turn: float = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    turns: int = node["Actual Loops"]
    return round(of_a_turn * turns)
