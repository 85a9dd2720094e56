"""What pgqueue says to people is English that they do not stumble over: name, reason and cure in the field's words."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgqueue

PACKAGE = Path(pgqueue.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Not the migrations, which are never edited.
STATEMENTS = sorted(path for path in (PACKAGE / "sql").rglob("*.sql") if path.parent.name != "migrations")

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
}

# What neither a docstring nor a comment says: it costs every reader a second look.
IN_COMMENTS = {
    r"\bwhoever\b": "the caller that, the user who",
    r"\b(his|him|himself)\b": "its, itself, the caller's",
    r"\bfor ever\b": "forever, without limit",
    r"\b(anew|afresh)\b": "again, start over",
    r"\bso many\b(?! that)": "this many",
    r"\bbelongs? into\b": "belongs in",
    r"\bmay what\b": "may do what",
    r"\b(tell|tells|told|telling) of\b": "report, say",
    r"\bstands\b(?! for)": "is, sits",
    r"\b(counts?|bells?|rings?|rung) for nothing\b": "discarded, needless",
    r"\b(go|goes|went) on\b": "continue",
    r"\bbeside\b": "next to, apart from",
    r"\bfor want of\b": "without, out of",
    r"\bshall\b": "should, is to",
}


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


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Of modules, classes and functions, and those below attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and (text := written(node.value)) is not None:
            yield node.lineno, text


def comments(path: Path) -> Iterator[tuple[int, str]]:
    """Blocks of comment lines, each as one text."""
    source = path.read_text("utf-8")
    if path.suffix == ".py":
        found = [
            (token.start[0], token.string.removeprefix("#"))
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        ]
    else:
        found = [(line, text.split("--", 1)[1]) for line, text in enumerate(source.splitlines(), 1) if "--" in text]
    block: list[tuple[int, str]] = []
    for line, text in found:
        if block and line != block[-1][0] + 1:
            yield block[0][0], "".join(text for _, text in block)
            block = []
        block.append((line, text))
    if block:
        yield block[0][0], "".join(text for _, text in block)


def stumbles(where: Path, texts: Iterator[tuple[int, str]], patterns: dict[str, str]) -> list[str]:
    return [
        f"{where.relative_to(PACKAGE.parent)}:{line}: {found[0]!r} in {' '.join(text.split())!r}: say {better}"
        for line, text in texts
        for pattern, better in patterns.items()
        if (found := re.search(pattern, " ".join(text.split()), re.I))
    ]


def test_messages_are_plain_english() -> None:
    found = []
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        said = [*literals(tree), *helps(tree)]
        found += stumbles(path, ((line, text) for line, text in said if " " in text.strip()), IN_MESSAGES)
    assert not found, "\n".join(["", *found])


def test_docstrings_and_comments_are_plain_english() -> None:
    found = []
    for path in MODULES:
        texts = [*docstrings(ast.parse(path.read_text("utf-8"))), *comments(path)]
        found += stumbles(path, iter(texts), IN_COMMENTS)
    for path in STATEMENTS:
        found += stumbles(path, comments(path), IN_COMMENTS)
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
