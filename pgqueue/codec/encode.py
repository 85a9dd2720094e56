"""A value made plain: JSON's own types only, or an error that says where in it is what cannot be stored.

Made plain without any annotation: datetime, date, time (ISO 8601), timedelta ("PT1.5S"), UUID, Decimal, Path (their
strings), bytes (base64), Enum (its value), tuple, NamedTuple, deque, set (lists; sets in a stable order), every Mapping,
dataclasses, attrs classes, msgspec structs and pydantic models (objects). What has no value (NaT), or would lose a part of
it (a zone, nanoseconds, a secret), is refused here, as no annotation could bring it back. Of a class with fields only what its
constructor takes is stored, of a model no computed field: the others follow from these.
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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

Reader = Callable[[Any], Any]
_Writer = Callable[[Any, int], Any]

_MAX_LEVELS = 100  # of nesting: a level costs four Python frames, so this stays well inside Python's default of 1,000
_MAX_SHOWN = 200  # characters of somebody's data in a message: enough to find it, too little to flood a log
SCALARS = frozenset({str, int, float, bool, types.NoneType})
_STARS = "**********"  # what pydantic writes in the place of a secret
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
        except Unfit:
            raise
        except Exception as error:  # a model's serializers can raise anything; the cause goes along
            raise Unfit(f"is {a_type(type(value))}, and writing it raised {type(error).__name__}") from error
        return _deeper(level)(converted)

    return write


class Field(NamedTuple):
    """A field of a class that is made of fields."""

    name: str
    key: str
    """How the constructor calls it, and what it is stored under; empty if the constructor does not take it."""
    counts: bool
    """Whether two values that differ in it are two values."""
    default: object


def _fields_of(cls: Any) -> tuple[Field, ...] | None:
    """The fields of a dataclass, an attrs class or a msgspec struct, known by what these carry; None for other classes."""
    if dataclasses.is_dataclass(cls):
        return tuple(
            Field(field.name, field.name if field.init else "", field.init or field.compare, field.default)
            for field in dataclasses.fields(cls)
        )
    if isinstance(attributes := getattr(cls, "__attrs_attrs__", None), tuple):
        return tuple(
            Field(
                a.name,
                (getattr(a, "alias", None) or a.name.lstrip("_")) if a.init else "",
                a.init or bool(a.eq),
                a.default,
            )
            for a in attributes
        )
    if isinstance(names := getattr(cls, "__struct_fields__", None), tuple):
        defaults = getattr(cls, "__struct_defaults__", ())  # those of the last fields
        return tuple(
            map(Field, names, names, itertools.repeat(True), (*[...] * (len(names) - len(defaults)), *defaults))
        )
    return None


fields_of: Callable[[Any], tuple[Field, ...] | None] = functools.lru_cache(maxsize=1000)(_fields_of)


def _plain_fields(value: Any, level: int) -> dict[str, Any]:
    try:
        items = {field.key: getattr(value, field.name) for field in fields_of(type(value)) or () if field.key}
    except AttributeError as error:
        raise Unfit(f"is {a_type(type(value))} without a value in every field; set them all") from error
    return _plain_dict(items, level)


def _by_items(value: Mapping[Any, object]) -> dict[Any, object]:
    items = dict(value.items())
    if len(items) != len(value):
        raise Unfit(f"is {a_type(type(value))} that has a key more than once; pass a dict of lists")
    return items


def _dump_of(cls: Any) -> Callable[[Any], Any]:
    """A model's own dump, by field names, of no more than what makes it again. Older and other models know less to ask for."""
    known = inspect.signature(cls.model_dump).parameters.values()
    wanted = {"by_alias": False, "round_trip": True, "warnings": False}  # its warnings show values
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known):
        wanted = {name: wanted[name] for name in wanted.keys() & {parameter.name for parameter in known}}

    def dump_model(model: Any) -> Any:
        dumped = model.model_dump(mode="json", **wanted)
        if _STARS in repr(dumped):
            _refuse_secrets(model)
        return dumped

    return dump_model


def _refuse_secrets(value: Any) -> None:
    """Raise Unfit where the value holds a secret that its model writes as stars."""
    if hasattr(type(value), "get_secret_value"):
        raise Unfit(f"is {a_type(type(value))}, which is written as stars; pass an id, or the secret itself as a str")
    parts = parts_of(type(value))
    found = parts(value) if parts else {}
    for _ in each(found, itertools.repeat(_refuse_secrets), found.values()):
        pass


def _parts_of(cls: Any) -> Callable[[Any], dict[Any, Any]] | None:
    """What gives the parts of a value of this class, by the step that leads there; None if it has none that we know."""
    if issubclass(cls, Mapping):
        return lambda value: dict(value.items())
    if issubclass(cls, (list, tuple, set, frozenset, deque)):
        return lambda value: dict(enumerate(value))
    if hasattr(cls, "model_fields"):
        return lambda model: {
            **{name: getattr(model, name, None) for name in cls.model_fields},
            **(getattr(model, "model_extra", None) or {}),
            **(getattr(model, "__pydantic_private__", None) or {}),
        }
    if (fields := fields_of(cls)) is not None:
        names = [field.name for field in fields if field.counts]
        return lambda value: {name: getattr(value, name, None) for name in names}
    return None


parts_of: Callable[[Any], Callable[[Any], dict[Any, Any]] | None] = functools.lru_cache(maxsize=1000)(_parts_of)


def _moment(value: Any) -> str:
    if value != value:  # pandas' NaT is a datetime by its class
        raise Unfit(f"is {a_type(type(value))}, which is not a time; pass None")
    if getattr(value, "tzinfo", None) is not None and value.utcoffset() is None:
        raise Unfit("has a time zone whose offset depends on the day, which would be lost; pass a datetime")
    return value.isoformat()  # type: ignore[no-any-return]


def _duration(value: timedelta) -> str:
    """ISO 8601 in seconds. Exact: a float loses microseconds beyond 272 years."""
    seconds, microseconds = divmod(abs(value) // timedelta(microseconds=1), 10**6)
    if type(value) is not timedelta and timedelta(seconds=seconds, microseconds=microseconds) != abs(value):
        raise Unfit(f"is {a_type(type(value))} of nanoseconds, which would be lost; round it to microseconds")
    fraction = f".{microseconds:06}".rstrip("0") if microseconds else ""
    return f"{'-' if value < timedelta() else ''}PT{seconds}{fraction}S"


_WRITERS: tuple[tuple[Any, _Writer], ...] = (  # the first match counts: an Enum may also be a str
    (Enum, _as(lambda member: member.value)),
    (str, _plain_str),
    ((bool, types.NoneType), lambda value, _: value),
    (int, _plain_int),
    (float, _plain_float),
    (dict, _plain_dict),
    ((list, tuple, deque), _plain_list),
    ((set, frozenset), _plain_set),
    (Mapping, _as(_by_items)),
    ((datetime, date, time), _as(_moment)),
    (timedelta, _as(_duration)),
    ((UUID, Decimal, PurePath), _as(str)),
    ((bytes, bytearray), _as(lambda value: base64.b64encode(value).decode())),
)


@functools.lru_cache(maxsize=1000)
def _writer(cls: type) -> _Writer:
    if hasattr(cls, "model_dump"):
        return _as(_dump_of(cls))
    if fields_of(cls) is not None and not issubclass(cls, Enum):
        return _plain_fields
    return next((writer for kinds, writer in _WRITERS if issubclass(cls, kinds)), _refuse)
