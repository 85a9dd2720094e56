"""The map at the door is true: what it names exists, and nothing is missing from it."""

import re
from pathlib import Path

import pytest

import pgqueue

PACKAGE = Path(pgqueue.__file__).parent
MAP = (PACKAGE / "README.md").read_text("utf-8")
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
FILES = set(re.findall(r"`([\w/]+\.(?:py|sql))`", MAP))
ROOMS = set(re.findall(r"`([\w/]+/)`", MAP))
_, GLOSSARY = MAP.split("## Words\n")
WORDS = [
    word for row in re.findall(r"^\| ([a-z, ]+?) \|", GLOSSARY.split("## ")[0], re.M)[1:] for word in row.split(", ")
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_is_named(path: Path) -> None:
    assert {path.name, str(path.relative_to(PACKAGE))} & FILES


@pytest.mark.parametrize("name", sorted(FILES))
def test_every_file_that_is_named_exists(name: str) -> None:
    places = [PACKAGE / name, PACKAGE.parent / name] if "/" in name else PACKAGE.rglob(name)
    assert any(path.is_file() for path in places)


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_every_room_exists(name: str) -> None:
    assert (PACKAGE / name).is_dir()


@pytest.mark.parametrize("path", sorted({path.parent for path in MODULES} - {PACKAGE}), ids=lambda path: path.name)
def test_every_room_is_named(path: Path) -> None:
    assert f"{path.relative_to(PACKAGE)}/" in ROOMS


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_in_use(word: str) -> None:
    text = "".join(path.read_text("utf-8") for suffix in ("py", "sql") for path in PACKAGE.rglob(f"*.{suffix}"))
    assert re.search(rf"\b{word.replace(' ', '[ _]')}", text, re.I)


def test_the_glossary_is_read() -> None:
    assert len(WORDS) >= 30 and {"token", "full scan", "ring"} <= set(WORDS)


def test_the_shapes_of_a_job_are_classes_of_ours() -> None:
    stops = MAP.split("## One job in nine stops")[1].split("## ")[0]
    text = "".join(path.read_text("utf-8") for path in MODULES)
    shapes = {shape for row in re.findall(r"\| ([^|]*) \|$", stops, re.M) for shape in re.findall(r"`(\w+)`", row)}
    assert len(shapes) >= 9
    for shape in shapes:
        assert re.search(rf"^(class {shape}\b|{shape} = )", text, re.M), shape
