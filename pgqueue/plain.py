"""A value made plain: JSON's own types only, or an error that says where in it is what cannot be stored.

Made plain without any annotation: datetime, date, time (ISO 8601), timedelta ("PT1.5S"), UUID, Decimal, Path (their
strings), bytes (base64), Enum (its value), tuple, NamedTuple, set (lists; sets in a stable order), dataclasses and
pydantic models (objects).
"""

import base64
import dataclasses
import functools
import inspect
import itertools
import json
import math
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, NoReturn
from uuid import UUID

Reader = Callable[[Any], Any]
_Writer = Callable[[Any, int], Any]

_MAX_LEVELS = 100  # of nesting: a level costs four Python frames, so this stays well inside Python's default of 1,000
_MAX_SHOWN = 200  # characters of somebody's data in a message: enough to find it, too little to flood a log
SCALARS = frozenset({str, int, float, bool, types.NoneType})
_TOO_DEEP = f"is nested more than {_MAX_LEVELS} levels deep, or contains itself; pass a flatter value"

# Non-ASCII text stays itself: smaller, readable in psql, and a lone surrogate shows, which \u escapes would hide.
# Cycles need no check here: the walk bounds the depth, and what skips the walk holds no containers.
dump = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


class Unfit(Exception):
    """A value does not fit. Each container adds its step while the error passes, so good values pay for no paths."""

    def __init__(self, problem: str, steps: list[object] | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps = steps or []  # innermost first

    def path(self) -> str:
        return short("".join(map(_step, reversed(self.steps))))


def _step(step: object) -> str:
    return f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{step!r}]"


def short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def a_type(cls: type) -> str:
    return f"{'an' if cls.__name__[0] in 'aeiouAEIOU' else 'a'} {short(cls.__name__)}"


def each(keys: Iterable[object], functions: Iterable[Reader], items: Iterable[object]) -> Iterator[Any]:
    """Apply each function to its item; what goes wrong learns on its way out under which key it was."""
    for key, function, item in zip(keys, functions, items, strict=False):
        try:
            yield function(item)
        except Unfit as unfit:
            unfit.steps.append(key)
            raise
        except RecursionError:  # the caller's own stack was almost full: our limit of levels came too late
            raise Unfit(_TOO_DEEP, [key]) from None


def plain(value: Any, level: int = 0) -> Any:
    return _writer(type(value))(value, level)  # type: ignore[arg-type]  # mypy: a type with Any in it is not Hashable


def _plain_str(value: str, _: int) -> str:
    if "\0" in value:
        raise Unfit("contains NUL (\\x00), which PostgreSQL cannot hold; remove it, or pass bytes")
    try:
        value.isascii() or value.encode()
    except UnicodeEncodeError:
        raise Unfit("contains a lone surrogate, which UTF-8 cannot hold; pass valid text or bytes") from None
    return value


def _plain_int(value: int, _: int) -> int:
    try:
        int.__repr__(value)
    except ValueError:
        limit = sys.get_int_max_str_digits()
        raise Unfit(f"is an int of more than {limit:,} digits; pass it as bytes or a hexadecimal string") from None
    return value


def _plain_float(value: float, _: int) -> float:
    if not math.isfinite(value):
        raise Unfit("is NaN or infinite, which JSON cannot hold; pass None or a string")
    return value


def _plain_list(value: Iterable[object], level: int) -> list[Any]:
    return list(each(itertools.count(), itertools.repeat(_deeper(level)), value))


def _plain_set(value: Iterable[object], level: int) -> list[Any]:
    # By text: the order of a set differs between processes, and equal calls should be equal texts (unique keys).
    return sorted(_plain_list(value, level), key=dump)


def _plain_dict(value: dict[Any, object], level: int) -> dict[str, Any]:
    for key in value:
        _check_key(key)
    return dict(zip(value, each(value, itertools.repeat(_deeper(level)), value.values()), strict=True))


def _deeper(level: int) -> Reader:
    if level > _MAX_LEVELS:
        raise Unfit(_TOO_DEEP)
    return functools.partial(plain, level=level + 1)


def _check_key(key: object) -> None:
    if not isinstance(key, str):  # json would write 1 as "1", and two keys could become one
        raise Unfit(f"has {a_type(type(key))} as a key, but keys of JSON are strings; pass str keys")
    try:
        _plain_str(key, 0)
    except Unfit as unfit:
        raise Unfit(f"has a key that {unfit.problem}") from None


def _refuse(value: object, _: int) -> NoReturn:
    cure = "did you forget await?" if inspect.isawaitable(value) else "pass an id or a plain value"
    raise Unfit(f"is {a_type(type(value))}, which JSON cannot hold; {cure}")


def _as(convert: Callable[[Any], object]) -> _Writer:
    """Written as what `convert` makes of it. A level deeper, so that even a model that dumps itself comes to an end."""

    def write(value: object, level: int) -> Any:
        try:
            converted = convert(value)
        except Exception as error:  # a model's serializers can raise anything; the cause goes along
            raise Unfit(f"is {a_type(type(value))}, and writing it raised {type(error).__name__}") from error
        return _deeper(level)(converted)

    return write


def _plain_dataclass(value: Any, level: int) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(value) if field.init)  # the others follow from these
    return _plain_dict({name: getattr(value, name) for name in names}, level)


def _duration(value: timedelta) -> str:
    """ISO 8601 in seconds. Exact: a float loses microseconds beyond 272 years."""
    seconds, microseconds = divmod(abs(value) // timedelta(microseconds=1), 10**6)
    fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
    return f"{'-' if value < timedelta() else ''}PT{seconds}{fraction}S"


_WRITERS: tuple[tuple[Any, _Writer], ...] = (  # the first match counts: an Enum may also be a str
    (Enum, _as(lambda member: member.value)),
    (str, _plain_str),
    ((bool, types.NoneType), lambda value, _: value),
    (int, _plain_int),
    (float, _plain_float),
    (dict, _plain_dict),
    ((list, tuple), _plain_list),
    ((set, frozenset), _plain_set),
    ((datetime, date, time), _as(lambda moment: moment.isoformat())),
    (timedelta, _as(_duration)),
    ((UUID, Decimal, PurePath), _as(str)),
    ((bytes, bytearray), _as(lambda value: base64.b64encode(value).decode())),
)


@functools.lru_cache(maxsize=1000)
def _writer(cls: type) -> _Writer:
    if hasattr(cls, "model_dump"):
        return _as(lambda model: model.model_dump(mode="json"))
    if dataclasses.is_dataclass(cls) and not issubclass(cls, Enum):
        return _plain_dataclass
    return next((writer for kinds, writer in _WRITERS if issubclass(cls, kinds)), _refuse)
