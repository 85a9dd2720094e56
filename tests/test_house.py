"""The house stays readable from the door: imports go one way, SQL lies in files, every module says what it is for."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgqueue

PACKAGE = Path(pgqueue.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
SQL = re.compile(r"\b(select\s.+\sfrom|insert\s+into|update\s+\S+\s+set|delete\s+from|create\s+table)\b", re.I | re.S)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


KNOWN = {name_of(path) for path in MODULES}


@functools.cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(text_of(path))


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Modules of the package that this one imports at its top level."""
    found = set()
    for node in tree_of(path).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return frozenset(name for name in found if name in KNOWN and name != name_of(path))


def test_imports_go_one_way() -> None:
    graph = {name_of(path): imports(path) - {"pgqueue"} for path in MODULES if path != PACKAGE / "__init__.py"}
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert done == graph.keys(), f"these import each other: {sorted(graph.keys() - done)}"


# From the ground up. What stands on one line may import each other.
FLOORS = (
    ("errors",),
    ("address", "spans", "strategies", "terminal", "waiting"),
    ("config", "codec", "job"),
    ("buses", "retry"),
    ("context", "hooks", "middleware", "spoils", "queries"),
    ("db",),
    ("embedded", "schema"),
    ("channels",),
    ("client",),
    ("gates",),
    ("events",),
    ("ops", "task", "webhooks"),
    ("schedules", "triggers"),
    ("app",),
    ("live", "loader", "demo"),
    ("worker",),
    ("bench", "dashboard"),
    ("cli",),
    ("contrib",),
    ("__main__", "testing"),
)


def room_of(name: str) -> str:
    return name.split(".")[1]


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(name_of(path)) for path in MODULES if name_of(path) != "pgqueue"}
    assert rooms == {room for floor in FLOORS for room in floor}


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path) != "pgqueue"], ids=name_of)
def test_imports_run_downwards(path: Path) -> None:
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    own = room_of(name_of(path))
    rooms = {room_of(name) for name in imports(path) if name != "pgqueue"}
    assert {room for room in rooms - {own} if floor[room] > floor[own]} == set()


def test_only_its_command_imports_the_measurements() -> None:
    importers = {name_of(path) for path in MODULES if re.search(r"(from|import) pgqueue\.bench\b", path.read_text())}
    assert {name for name in importers if not name.startswith("pgqueue.bench")} == {"pgqueue.cli.bench"}


def test_one_importer_of_psycopg() -> None:
    importers = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("psycopg", "psycopg_pool"))
        or (
            isinstance(node, ast.Import) and any(alias.name.split(".")[0].startswith("psycopg") for alias in node.names)
        )
    }
    assert importers and all(name.startswith("pgqueue.db.") for name in importers)


def test_one_reader_of_the_environment() -> None:
    readers = {name_of(path) for path in MODULES if re.search(r"os\.environ|os\.getenv", path.read_text())}
    assert readers <= {"pgqueue.config", "pgqueue.embedded.places"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is_for_and_holds_no_sql(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "no docstring"
    docstrings = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docstrings:
            assert not SQL.search(node.value), f"line {node.lineno} holds SQL"


@pytest.mark.parametrize("path", sorted((PACKAGE / "sql").rglob("*.sql")), ids=lambda path: path.name)
def test_a_statement_says_what_it_does_and_is_used(path: Path) -> None:
    text = path.read_text()
    if not path.name.startswith("insert_"):
        assert text.startswith("-- "), "the first line says what it does"
    callers = "".join(text_of(module) for module in MODULES)
    assert (
        path.parent.name == "migrations"
        or path.stem.removeprefix("insert_on_duplicate_").removeprefix("insert_source_").removeprefix("savepoint_")
        in callers
    )


def test_nothing_is_unpickled_or_evaluated() -> None:
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "marshal", "shelve", "dill"} & set(names), name_of(path)


def reaches(path: Path, seen: set[str]) -> set[str]:
    """Everything that this module imports, and what that imports."""
    for name in imports(path) - seen:
        seen.add(name)
        inner = PACKAGE.parent.joinpath(*name.split("."))
        reaches(inner / "__init__.py" if inner.is_dir() else inner.with_suffix(".py"), seen)
    return seen


@pytest.mark.parametrize(
    "path", [path for path in MODULES if name_of(path).startswith("pgqueue.worker.supervisor.")], ids=name_of
)
def test_the_supervisor_knows_no_user_code(path: Path) -> None:
    strangers = {
        name
        for name in reaches(path, set())
        if name.startswith(("pgqueue.worker.child", "pgqueue.worker.helper")) or name == "pgqueue.loader"
    }
    assert not strangers


def test_who_only_enqueues_imports_little() -> None:
    """Every script and every web worker pays for what `import pgqueue` brings along. By its names, as a time would be noise."""
    code = "import sys, pgqueue; pgqueue.App('postgresql:///none'); print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    names = {
        "pgqueue.events",
        "pgqueue.events.publish",
        "pgqueue.events.publisher",
        "pgqueue.events.types",
        "pgqueue.schedules",
    }
    others = (
        "bench", "buses", "channels", "cli", "contrib", "dashboard", "events", "live", "schedules", "testing", "triggers",
        "webhooks", "worker",
    )  # fmt: skip
    assert "pgqueue.client.enqueue" in loaded
    assert {name for name in loaded if name.startswith("pgqueue.") and room_of(name) in others} <= names
    assert not loaded & {"multiprocessing.connection", "tomllib", "typer", "rich", "http.client"}


def test_what_is_imported_later_is_there() -> None:
    """Under the same names as ever, and for `import *` too."""
    assert pgqueue.ON_DEMAND.keys() < set(pgqueue.__all__)
    assert all(getattr(pgqueue, name).__name__ == name for name in pgqueue.ON_DEMAND)
    with pytest.raises(AttributeError, match="no attribute 'Evnt'"):
        pgqueue.Evnt  # noqa: B018


def test_supervisor_and_child_share_the_link_alone() -> None:
    for path in MODULES:
        if name_of(path).startswith(("pgqueue.worker.child.", "pgqueue.worker.link.")):
            assert not {name for name in imports(path) if name.startswith("pgqueue.worker.supervisor")}, name_of(path)
        if name_of(path).startswith("pgqueue.worker.link."):
            assert not {name for name in imports(path) if name.startswith("pgqueue.worker.child")}, name_of(path)


def test_every_statement_that_a_builder_names_is_there() -> None:
    """A builder that is called once in a blue moon must not find out then."""
    named = set()
    for path in (PACKAGE / "queries").glob("*.py"):
        for node in ast.walk(tree_of(path)):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"\w+((/\w+)+(\.sql)?|\.sql)", node.value)
            ):
                named.add(node.value.removesuffix(".sql"))
    named = {name for name in named if not name.endswith("_")}  # the first part of an f-string
    there = {str(path.relative_to(PACKAGE / "sql").with_suffix("")) for path in (PACKAGE / "sql").rglob("*.sql")}
    assert len(named) > 70 and named <= there


def definitions(path: Path) -> Iterator[str]:
    """The classes and constants that a module defines at its top level."""
    for node in tree_of(path).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (
            target.id
            for target in targets
            if isinstance(target, ast.Name) and len(target.id) > 1 and target.id.strip("_").isupper()
        )


def test_no_class_holds_much_state() -> None:
    """A method of five lines that reads nine attributes is not a small method."""
    held: dict[str, int] = {}
    for path in MODULES:
        for owner in ast.walk(tree_of(path)):
            if isinstance(owner, ast.ClassDef):
                own = {
                    node.attr
                    for node in ast.walk(owner)
                    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
                    if isinstance(node.value, ast.Name) and node.value.id == "self"
                }
                held[f"{name_of(path)}.{owner.name}"] = len(own)
    assert held and {name: count for name, count in held.items() if count > 15} == {}


def test_one_name_means_one_thing() -> None:
    """Who looks for a class or a constant finds one. Names of one letter are type variables."""
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for name in definitions(path):
            homes.setdefault(name, []).append(name_of(path))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
