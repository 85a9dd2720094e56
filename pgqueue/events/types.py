"""Types of events, and patterns of them: `user.created` means itself, `user.*` all that begins so, `*` all."""

from collections.abc import Iterable

from pgqueue.client.options import check_name
from pgqueue.errors import InvalidOption


def check_type(value: object) -> str:
    """A type that can be published: a name as of a task, without a `*`."""
    name = check_name("type", value)
    if "*" in name:
        raise InvalidOption(f"type {name!r} holds a `*`, which only a subscription may have: take it out")
    return name


def check_patterns(values: Iterable[object]) -> list[str]:
    """What a subscription may ask for: types, or beginnings that end in `.*`, or `*`; at least one, each once."""
    patterns = [check_name("type", value) for value in ([values] if isinstance(values, str) else values)]
    if not patterns:
        raise InvalidOption("a subscription takes at least one type of event, as in 'user.created', 'user.*' or '*'")
    for pattern in patterns:
        if "*" in pattern and pattern != "*" and not (pattern.endswith(".*") and pattern.count("*") == 1):
            raise InvalidOption(
                f"the pattern {pattern!r} has its `*` where none can be: only 'user.*' and '*' are understood"
            )
    return list(dict.fromkeys(patterns))
