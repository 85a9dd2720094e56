"""What pgqueue says to people is English that they do not stumble over: name, reason and cure in the field's words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgqueue

PACKAGE = Path(pgqueue.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# What a message must not say, and what it says in its place.
IN_MESSAGES = {
    r"(?<!there )\b(is|are) no\b(?! longer)": "is not a valid ..., is not a ...",
    r"\b(can|may) no more\b": "cannot ... any longer",
    r"\bwhoever\b": "the user that, the process that",
    r"\b(nobody|somebody)\b(?!')": "no worker, another user: name them",
    r"\b(his|him|himself)\b": "its, itself, the caller's",
    r"\bso (many|much)\b": "this many, this much",
    r"\bbelongs? into\b": "belongs in",
    r"\bmay what\b": "may do what",
    r"\bfor ever\b": "without limit, forever",
    r"\b(anew|afresh)\b": "again, or a verb with re-",
    r"\b(tell|tells|told|telling) of\b": "show, report",
    r"\bstands?\b": "is, sits in front of",
    r"\blies?\b": "is, are",
    r"\bbells?\b": "notification",
    r"\bfor nothing\b": "needless, discarded",
    r"\b(come|comes|came|coming) up\b": "start, fail to start",
    r"\b(take|takes|took|taken|taking) back\b": "rescue",
    r"\b(give|gives|gave|given|giving)( \w+)? back\b": "release",
    r"\b(go|goes|went|going) on\b": "continue, is still running",
    r"\bbeside\b": "next to, and",
    r"\bplaces? (at|of)\b": "slots",
    r"\bshall\b": "should, will",
    r"\bfor want of\b": "out of",
    r"\b(is|be) asked for\b": "was requested",
    r"\bcannot be had\b": "is not available",
    r"\bwill do\b": "is enough",
    r"\bway back\b": "cannot be undone",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bbetween two looks\b": "interval",
}  # fmt: skip


def written(node: ast.AST) -> str | None:
    """A literal as it is shown, with {} for what an f-string computes."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every text of the code, those inside of an f-string too, and no docstrings."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        text = written(node)
        if text is not None and not (isinstance(tree, ast.JoinedStr) and isinstance(node, ast.Constant)):
            yield getattr(node, "lineno", 0), text
        yield from literals(node)


def helps(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The docstrings of commands, which are their help."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(".command(" in ast.unparse(mark) for mark in node.decorator_list):
            yield node.lineno, ast.get_docstring(node) or ""


def stumbles(where: Path, texts: Iterator[tuple[int, str]], patterns: dict[str, str]) -> list[str]:
    return [
        f"{where.relative_to(PACKAGE.parent)}:{line}: {found[0]!r} in {text!r}: say {better}"
        for line, text in texts
        for pattern, better in patterns.items()
        if (found := re.search(pattern, text, re.I))
    ]


def test_messages_are_plain_english() -> None:
    found = []
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        said = [*literals(tree), *helps(tree)]
        found += stumbles(path, ((line, text) for line, text in said if " " in text.strip()), IN_MESSAGES)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    "code",
    [
        'raise ConfigError(f"{name} is no setting")',
        'raise ConfigError(f"{name}" + f": {value!r} belongs into {place}")',
        'logger.warning("%d bells a second", bells)',
        'logger.warning("job %s: %s", job, f"{job} {f\'goes on\'}")',
        'typer.Option(help="At most so many.")',
        '@app.command()\ndef purge():\n    """There is no way back."""',
    ],
)
def test_a_stumbling_block_is_found(code: str) -> None:
    tree = ast.parse(code)
    assert stumbles(PACKAGE, iter([*literals(tree), *helps(tree)]), IN_MESSAGES)
