"""What JSON gave made again what an annotation declares.

Restoring is no validation: annotations of JSON's own types leave the value as it is (except an int for a float), so do
unknown ones and TypedDict, and the data never chooses a class. Of a union, the first member in written order wins that
would be stored as exactly this JSON; failing that, the first that can read it.
"""

import base64
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pgqueue.plain import SCALARS, Reader, Unfit, a_type, dump, each, plain, short

if sys.version_info >= (3, 14):  # annotations are evaluated when asked for, which forward references must survive
    from annotationlib import Format

    _annotations_of = functools.partial(inspect.get_annotations, format=Format.FORWARDREF)
else:
    _annotations_of = inspect.get_annotations


def as_is(value: Any) -> Any:
    return value


def hints_of(owner: Any) -> dict[str, Any]:
    """Annotations by name, each on its own: one that only a type checker can resolve is left out, not all of them."""
    found: dict[str, Any] = {}
    for part in reversed(getattr(owner, "__mro__", (owner,))):
        scope = getattr(part, "__globals__", None) or vars(sys.modules.get(part.__module__, typing))
        for name, hint in _annotations_of(part).items():
            with suppress(Exception):  # evaluating somebody's string can raise anything
                found |= typing.get_type_hints(types.SimpleNamespace(__annotations__={name: hint}), globalns=scope)
    return found


def reader_for(hint: Any, strict: bool = False) -> Reader:
    """How to read JSON as `hint`. Strict, inside a union: JSON's own types too refuse what another member may want."""
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is typing.Union or kind is types.UnionType:
        return _union_reader(arguments, strict)
    if kind is typing.Literal:
        return _guarded(str(hint), _member_reader(arguments))
    if kind is typing.Annotated:
        return reader_for(arguments[0], strict)
    if isinstance(hint, typing.NewType):
        return reader_for(hint.__supertype__, strict)
    if hasattr(hint, "__value__"):  # `type X = ...`, which may mention itself
        return lambda value: _alias_reader(hint, strict)(value)
    return _class_reader(kind, arguments, strict) if isinstance(kind, type) else as_is


@functools.cache
def _alias_reader(alias: Any, strict: bool) -> Reader:
    return reader_for(alias.__value__, strict)


def _class_reader(cls: type, arguments: tuple[Any, ...], strict: bool) -> Reader:
    return _guarded(cls.__name__, _class_parser(cls, arguments, strict))


def _class_parser(cls: Any, arguments: tuple[Any, ...], strict: bool) -> Reader:
    if cls in _LISTS:
        return _list_reader(_LISTS[cls], arguments, strict)
    if cls in _MAPPINGS or issubclass(cls, dict):
        return _dict_reader(arguments if cls in _MAPPINGS else (), strict)
    if issubclass(cls, Enum):
        return _member_reader(cls, otherwise=cls)
    if hasattr(cls, "model_validate"):
        return cls.model_validate  # type: ignore[no-any-return]
    if dataclasses.is_dataclass(cls):
        return functools.partial(_read_dataclass, cls, strict)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return functools.partial(_read_named_tuple, cls, strict)
    if cls is float or (strict and cls in SCALARS):
        return functools.partial(_read_scalar, cls, strict)
    return cls if issubclass(cls, PurePath) else _PARSERS.get(cls, as_is)


def _guarded(wanted: str, parse: Reader) -> Reader:
    """Whatever a parser or somebody's constructor raises becomes one line that names types, not values."""

    def read(value: Any) -> Any:
        try:
            return parse(value)
        except Unfit:
            raise
        except Exception as error:
            raise Unfit(f"is stored as {a_type(type(value))}, which cannot be read as {short(wanted)}") from error

    return parse if parse is as_is else read


def _list_reader(build: Callable[[Iterable[Any]], Any], arguments: tuple[Any, ...], strict: bool) -> Reader:
    fixed = build is tuple and arguments and arguments[-1] is not Ellipsis
    readers = [reader_for(hint, strict) for hint in arguments] if arguments else [as_is]
    if build is list and readers == [as_is] and not strict:
        return as_is

    def read(value: Any) -> Any:
        if not isinstance(value, list) or (fixed and len(value) != len(readers)):
            raise TypeError
        return build(each(itertools.count(), readers if fixed else itertools.repeat(readers[0]), value))

    return read


def _dict_reader(arguments: tuple[Any, ...], strict: bool) -> Reader:
    read_key, read_item = (reader_for(hint, strict) for hint in arguments or (Any, Any))
    if read_key is read_item is as_is and not strict:
        return as_is

    def read(value: Any) -> Any:
        items = each(value, itertools.repeat(read_item), value.values())
        return dict(zip(map(read_key, value), items, strict=True))

    return read


def _member_reader(members: Iterable[Any], otherwise: Reader | None = None) -> Reader:
    """By JSON text: it tells 1 from true and 1.0, and finds members whose values are lists or dates."""
    table = {}
    for member in members:
        with suppress(Unfit):  # an Enum may have members that cannot be stored, as long as nobody tries
            table[dump(plain(member))] = member

    def read(value: Any) -> Any:
        text = dump(value)
        return otherwise(value) if otherwise and text not in table else table[text]

    return read


@functools.cache
def _field_readers(cls: Any, strict: bool) -> dict[str, Reader]:
    """Resolved when the first value is read, so that a class may refer to itself."""
    return {name: reader_for(hint, strict) for name, hint in hints_of(cls).items()}


def _read_dataclass(cls: Any, strict: bool, value: Any) -> Any:
    readers = _field_readers(cls, strict)
    items = each(value, (readers.get(name, as_is) for name in value), value.values())
    return cls(**dict(zip(value, items, strict=True)))


def _read_named_tuple(cls: Any, strict: bool, value: Any) -> Any:
    if not isinstance(value, list):
        raise TypeError
    readers = _field_readers(cls, strict)
    known = (readers.get(name, as_is) for name in cls._fields)
    return cls(*each(itertools.count(), itertools.chain(known, itertools.repeat(as_is)), value))


def _read_scalar(cls: type, strict: bool, value: Any) -> Any:
    if cls is float and type(value) is int:
        return float(value)
    if strict and type(value) is not cls:
        raise TypeError
    return value


def _union_reader(hints: tuple[Any, ...], strict: bool) -> Reader:
    members = [hint for hint in hints if hint is not types.NoneType]
    if len(members) == 1:
        return optional(reader_for(members[0], strict))
    readers = [reader_for(hint, strict=True) for hint in members]

    def read(value: Any) -> Any:
        results = []
        for reader in readers:
            with suppress(Unfit):
                results.append(reader(value))
                if _is_stored_as(results[-1], value):
                    return results[-1]
        return results[0]

    guarded = _guarded("any of " + ", ".join(getattr(hint, "__name__", str(hint)) for hint in members), read)
    return optional(guarded) if len(members) < len(hints) else guarded


def optional(reader: Reader) -> Reader:
    return reader if reader is as_is else lambda value: None if value is None else reader(value)


def _is_stored_as(result: object, value: object) -> bool:
    return bool(dump(plain(result)) == dump(value))


def _read_date(value: Any) -> date:
    """A datetime is a date too: one that was passed comes back whole."""
    return date.fromisoformat(value) if len(value) <= len("2024-01-01") else datetime.fromisoformat(value)


def _read_duration(value: Any) -> timedelta:
    sign, seconds, fraction = re.fullmatch(r"(-?)PT(\d+)(?:\.(\d{1,6}))?S", value).groups(default="")  # type: ignore[union-attr]
    size = timedelta(seconds=int(seconds), microseconds=int(fraction.ljust(6, "0")))
    return -size if sign else size


_LISTS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable), list),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    tuple: tuple,
    frozenset: frozenset,
}
_MAPPINGS = frozenset({dict, abc.Mapping, abc.MutableMapping})
_PARSERS: dict[Any, Reader] = {
    datetime: datetime.fromisoformat,
    date: _read_date,
    time: time.fromisoformat,
    timedelta: _read_duration,
    UUID: UUID,
    Decimal: lambda value: Decimal(str(value)),
    bytes: functools.partial(base64.b64decode, validate=True),
}
