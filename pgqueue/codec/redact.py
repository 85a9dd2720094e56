"""Secrets stay out of what people look at. Which values are secret follows from their names: those that `@task(redact=...)`
gives, and those that the setting `secret_names` finds among parameters, keys and headers.

Stored arguments have no names where they were given by position, and the person looking at a job need not have its code. So a
task with secret parameters leaves a note in the headers of its jobs, under MARKS.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pgqueue.job import Snapshot

STARS = "***"
MARKS = "pgqueue.redact"
"""Header: names, positions, and "*n" for all positions from n on."""
MIN_LENGTH = 4  # characters; to mask a shorter secret in a text would tear the text to pieces
URL_PASSWORD = re.compile(r"(\b\w+://[^\s:/@]*:)[^\s/]+(?=@)|(\bpassword\s*=\s*)(?:'[^']*'|[^\s'&\"]+)", re.IGNORECASE)
REST = re.compile(r"\*\d{1,4}")

Marks = Sequence[str | int]
Text = Callable[[str], str]


def marks_of(positional: Sequence[str], named: Iterable[str], rest: str, *, is_secret: Callable[[str], bool]) -> Marks:
    """What a task with these parameters (`rest` is its *args) writes into the headers of its jobs; empty for most."""
    marks: list[str | int] = [index for index, name in enumerate(positional) if is_secret(name)]
    marks += [name for name in dict.fromkeys((*positional, *named)) if is_secret(name)]
    return [*marks, f"*{len(positional)}"] if rest and is_secret(rest) else marks


def shown(job: Snapshot, *, secret_names: str) -> Snapshot:
    """The job as people may see it: secret values are stars, also where other columns repeat them."""
    found = Secrets(job.args, job.kwargs, job.headers, secret_names=secret_names)
    mask = found.mask
    result = None if job.result is None else mask(found.hide_text(job.result))
    return job._replace(
        args=found.args, kwargs=found.kwargs, headers=found.headers, result=result,
        error=_maybe(mask, job.error), progress_note=_maybe(mask, job.progress_note),
        unique_key=_maybe(mask, job.unique_key),
    )  # fmt: skip


def _maybe(mask: Text, text: str | None) -> str | None:
    return None if text is None else mask(text)


class Secrets:
    """The columns of one job without its secrets, and the means to find these in other texts."""

    def __init__(self, args: str, kwargs: str, headers: str | None, *, secret_names: str) -> None:
        """Looks through everything: not for the path of a job that succeeds."""
        self._pattern = re.compile(secret_names)
        self._values: set[str] = set()
        hidden_headers = None if headers is None else _load(headers)
        marks = hidden_headers.pop(MARKS, ()) if isinstance(hidden_headers, dict) else ()
        self._marks: Marks = [mark for mark in marks if isinstance(mark, int | str)] if isinstance(marks, list) else []
        self.args = self._dump(args, self._hide_args)
        self.kwargs = self._dump(kwargs, self._hide_kwargs)
        # Without our own mark, and nothing at all if that was everything.
        unmarked = (
            headers if headers is None or MARKS not in headers else json.dumps(hidden_headers, ensure_ascii=False)
        )
        self.headers = None if unmarked is None or hidden_headers == {} else self._dump(unmarked, self._hide)
        self._found = _any_of(self._values)

    def mask(self, text: str) -> str:
        """The text with stars in the place of secrets."""
        text = self._found.sub(STARS, text) if self._found else text
        return URL_PASSWORD.sub(lambda match: f"{match[1] or match[2]}{STARS}", text)

    def hide_text(self, text: str) -> str:
        """JSON text with stars under secret keys."""
        return self._dump(text, self._hide)

    def _dump(self, text: str, hide: Callable[[Any], Any]) -> str:
        value = _load(text)
        if value is _NO_JSON:
            return text
        try:
            hidden = hide(value)
        except RecursionError:  # somebody's row, deeper than any that we write
            return STARS
        return text if hidden == value else json.dumps(hidden, ensure_ascii=False)

    def _hide_args(self, value: Any) -> Any:
        if not isinstance(value, list):
            return self._hide(value)
        rest = next((int(mark[1:]) for mark in map(str, self._marks) if REST.fullmatch(mark)), len(value))
        return [
            self._stars(item) if index in self._marks or index >= rest else self._hide(item)
            for index, item in enumerate(value)
        ]

    def _hide_kwargs(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return self._hide(value)
        return {
            name: self._stars(item) if name in self._marks else self._hide({name: item})[name]
            for name, item in value.items()
        }

    def _hide(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._hide(item) for item in value]
        if isinstance(value, dict):
            return {
                name: self._stars(item) if self._pattern.search(name) else self._hide(item)
                for name, item in value.items()
            }
        return value

    def _stars(self, value: Any) -> Any:
        """Stars instead of a value, null where there is none."""
        self._values.update(_texts(value))
        return None if value is None else STARS


def _texts(value: Any) -> Iterator[str]:
    """Every text that gives a secret value away."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        text = str(value)
        if len(text) >= MIN_LENGTH:
            yield from (text, repr(text)[1:-1], json.dumps(text)[1:-1])


def _any_of(values: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted(values, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


_NO_JSON = object()


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON
