"""The table of guards in tests/README.md is whole: every test file stands in it, and every module has a test that guards it."""

import re
from pathlib import Path

import pytest

import pgqueue

HERE = Path(__file__).parent
PACKAGE = Path(pgqueue.__file__).parent
TABLE = (HERE / "README.md").read_text("utf-8").split("## What guards what\n")[1].split("\n## ")[0]
ROWS = re.findall(r"^\| `([\w/]+\.py)` \| (.+) \|$", TABLE, re.M)
# A name on the right: a module, a room, or, as its own tests have guards too, another file of the tests.
GUARDED = sorted({name for _, guards in ROWS for name in re.findall(r"`([\w/.]+)`", guards)})
TESTS = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("test_*.py"))
MODULES = sorted(
    str(path.relative_to(PACKAGE))
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py" or path.parent == PACKAGE
)


def test_every_test_file_stands_there_once() -> None:
    assert sorted(name for name, _ in ROWS) == TESTS


@pytest.mark.parametrize("name", GUARDED)
def test_what_is_guarded_exists(name: str) -> None:
    found = [root / name for root in (PACKAGE, HERE, HERE.parent)]
    assert any(path.is_dir() if name.endswith("/") else path.is_file() for path in found)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_guarded(module: str) -> None:
    rooms = {f"{room}/" for room in Path(module).parents}
    assert rooms & {*GUARDED} or module in GUARDED
