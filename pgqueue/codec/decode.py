"""What JSON gave made again what an annotation declares.

Restoring is no validation: annotations of JSON's own types leave the value as it is (except an int for a float), so do
unknown ones, and the data never chooses a class. Of a union, the first member in written order wins that would be stored as
exactly this JSON; failing that, the first that can read it. Whether what is read is what was given, proof.py says.
"""

import base64
import functools
import inspect
import itertools
import re
import sys
import types
import typing
from collections import Counter, abc, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, NoReturn
from uuid import UUID

from pgqueue.codec.encode import SCALARS, Reader, Unfit, a_type, dump, each, fields_of, plain, short

if sys.version_info >= (3, 14):  # annotations are evaluated when asked for, which forward references must survive
    from annotationlib import Format

    _annotations_of = functools.partial(inspect.get_annotations, format=Format.FORWARDREF)
else:
    _annotations_of = inspect.get_annotations


def as_is(value: Any) -> Any:
    return value


def hints_of(owner: Any, arguments: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Annotations by name, each on its own: one that only a type checker can resolve is left out, not all of them.

    Of a generic class `arguments` are what its parameters stand for.
    """
    found: dict[str, Any] = {}
    meanings = _meanings(owner, arguments)
    for part in reversed(getattr(owner, "__mro__", (owner,))):
        scope = getattr(part, "__globals__", None) or vars(sys.modules.get(part.__module__, typing))
        for name, hint in _annotations_of(part).items():
            with suppress(Exception):  # evaluating somebody's string can raise anything
                hints = typing.get_type_hints(types.SimpleNamespace(__annotations__={name: hint}), globalns=scope)
                found[name] = _substituted(hints[name], meanings.get(part, {}))
    return found


def _meanings(owner: Any, arguments: tuple[Any, ...]) -> dict[Any, dict[Any, Any]]:
    """What the type parameters of a class and of each of its generic bases stand for: one T may mean two things."""
    known = dict(zip(getattr(owner, "__parameters__", ()), arguments, strict=False))
    meanings = {owner: known}
    for base in getattr(owner, "__orig_bases__", ()):
        inner = tuple(_substituted(argument, known) for argument in typing.get_args(base))
        meanings |= _meanings(typing.get_origin(base) or base, inner)
    return meanings


def _substituted(hint: Any, known: Mapping[Any, Any]) -> Any:
    if not known:
        return hint
    if hint in known:
        return known[hint]
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(known.get(parameter, Any) for parameter in parameters)]


def anatomy(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a hint is and its arguments, without what says nothing about values: Annotated, NewType, NotRequired.

    A type variable that nothing was put in for is what it is bound to.
    """
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if isinstance(kind, typing.TypeVar):
        return anatomy(_bound(kind))
    if isinstance(kind, typing.NewType):
        return anatomy(kind.__supertype__)
    if kind is typing.Annotated or getattr(kind, "_name", None) in ("Required", "NotRequired", "ReadOnly", "Final"):
        return anatomy(arguments[0]) if arguments else (Any, ())
    return kind, arguments


def _bound(variable: typing.TypeVar) -> Any:
    with suppress(Exception):  # `def task[T: Model](...)` is evaluated only here, and text may be for type checkers
        limits = variable.__constraints__ or (variable.__bound__ or Any,)
        written = types.SimpleNamespace(__annotations__={"limit": typing.Union[limits]})  # noqa: UP007  # some know no |
        return typing.get_type_hints(written, globalns=vars(sys.modules[variable.__module__]))["limit"]
    return Any


def meaning(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """What `type X[T] = ...` stands for."""
    return _substituted(alias.__value__, dict(zip(getattr(alias, "__type_params__", ()), arguments, strict=False)))


def reader_for(hint: Any, strict: bool = False) -> Reader:
    """How to read JSON as `hint`. Strict, inside a union: JSON's own types too refuse what another member may want."""
    kind, arguments = anatomy(hint)
    if kind is typing.Union or kind is types.UnionType:
        return _union_reader(arguments, strict)
    if kind is typing.Literal:
        return _guarded(str(hint), _member_reader(arguments))
    if hasattr(kind, "__value__"):  # `type X = ...`, which may mention itself
        return lambda value: _alias_reader(kind, arguments, strict)(value)
    return _class_reader(kind, arguments, strict) if isinstance(kind, type) else as_is


@functools.cache
def _alias_reader(alias: Any, arguments: tuple[Any, ...], strict: bool) -> Reader:
    return reader_for(meaning(alias, arguments), strict)


def _class_reader(cls: type, arguments: tuple[Any, ...], strict: bool) -> Reader:
    return _guarded(cls.__name__, _class_parser(cls, arguments, strict))


def _class_parser(cls: Any, arguments: tuple[Any, ...], strict: bool) -> Reader:
    if issubclass(cls, Enum):
        return _member_reader(cls, otherwise=cls)
    if hasattr(cls, "model_validate"):
        return _model_parser(cls)
    if fields_of(cls) is not None:
        return functools.partial(_read_fields, cls, arguments, strict)
    if is_typed_dict(cls):
        return functools.partial(_read_typed_dict, cls, arguments, strict)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return functools.partial(_read_named_tuple, cls, arguments, strict)
    if issubclass(cls, abc.Mapping):
        return _dict_reader(cls, *key_and_item(cls, arguments), strict)
    if cls in LISTS or issubclass(cls, (list, set, frozenset, tuple, deque)):
        return _list_reader(LISTS.get(cls, cls), arguments, strict)
    if cls is float or (strict and cls in SCALARS):
        return functools.partial(_read_scalar, cls, strict)
    return as_is if cls in SCALARS else _value_parser(cls)


def _value_parser(cls: Any) -> Reader:
    """Of a class whose values have no parts. A subclass makes its own from what its base is made of."""
    if cls in _PARSERS:
        return _PARSERS[cls]
    if issubclass(cls, (PurePath, UUID)):
        return lambda value: cls(value) if isinstance(value, str) else _no(value)
    if issubclass(cls, (datetime, date, time)):
        return cls.fromisoformat  # type: ignore[no-any-return]
    if issubclass(cls, timedelta):
        return lambda value: _span(cls, _read_duration(value))
    base = next((base for base in (str, int, float, bytes, bytearray, Decimal) if issubclass(cls, base)), None)
    if base is None:
        return as_is
    parse = _PARSERS.get(base, functools.partial(_read_scalar, base, True))
    return lambda value: cls(parse(value))


def _no(_: object) -> NoReturn:
    raise TypeError


def _span(cls: Any, span: timedelta) -> Any:
    return cls(days=span.days, seconds=span.seconds, microseconds=span.microseconds)


def is_typed_dict(cls: Any) -> bool:
    """typing's or typing_extensions'."""
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


@functools.cache
def required_keys(cls: Any) -> frozenset[str]:
    """Of a TypedDict. Where annotations are text, it has not seen what they say of it."""
    texts = {name: str(getattr(hint, "__forward_arg__", "")) for name, hint in _annotations_of(cls).items()}
    wrong = {name for name, text in texts.items() if "NotRequired[" in text}
    missed = {name for name, text in texts.items() if re.search(r"\bRequired\[", text)}
    return (cls.__required_keys__ | missed) - wrong  # type: ignore[no-any-return]


def key_and_item(cls: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
    """The hints of a Mapping's keys and items."""
    if issubclass(cls, Counter) and len(arguments) == 1:
        return arguments[0], int
    return arguments if len(arguments) == 2 else (Any, Any)


def _model_parser(cls: Any) -> Reader:
    """Of a model: as JSON, since a strict one takes a date from that but not from a str; by the fields' names, as it was
    written, or by their aliases, as people write them by hand. Older and other models take what they take."""
    validate = getattr(cls, "model_validate_json", None)
    if validate is None:
        return cls.model_validate  # type: ignore[no-any-return]
    wanted = {"by_alias": True, "by_name": True} if "by_name" in inspect.signature(validate).parameters else {}
    return lambda value: validate(dump(value), **wanted)


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


def _dict_reader(cls: Any, key: Any, item: Any, strict: bool) -> Reader:
    read_key, read_item = reader_for(key, strict), reader_for(item, strict)
    build = _builder(cls, item)
    if read_key is read_item is as_is and build is dict and not strict:
        return as_is

    def read(value: Any) -> Any:
        items = each(value, itertools.repeat(read_item), value.values())
        return build(dict(zip(map(read_key, value), items, strict=True)))

    return read


def _builder(cls: Any, item: Any) -> Callable[[dict[Any, Any]], Any]:
    """What makes a Mapping of a dict. A defaultdict's items say what makes new ones."""
    if cls in (abc.Mapping, abc.MutableMapping):
        return dict
    if not issubclass(cls, defaultdict):
        return cls  # type: ignore[no-any-return]
    kind, _ = anatomy(item)
    return functools.partial(cls, LISTS.get(kind, kind) if isinstance(kind, type) and item is not Any else None)


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
def _field_readers(cls: Any, arguments: tuple[Any, ...], strict: bool) -> dict[str, Reader]:
    """By the key they are stored under. Resolved when the first value is read, so that a class may refer to itself."""
    readers = {name: reader_for(hint, strict) for name, hint in hints_of(cls, arguments).items()}
    for field in fields_of(cls) or ():
        if field.name in readers:
            reader = readers.pop(field.name)
            readers[field.key] = optional(reader) if field.default is None else reader
    return readers


def _read_items(cls: Any, arguments: tuple[Any, ...], strict: bool, value: Any) -> dict[Any, Any]:
    readers = _field_readers(cls, arguments, strict)
    items = each(value, (readers.get(name, as_is) for name in value), value.values())
    return dict(zip(value, items, strict=True))


def _read_fields(cls: Any, arguments: tuple[Any, ...], strict: bool, value: Any) -> Any:
    items = _read_items(cls, arguments, strict, value)
    try:
        return cls(**items)
    except TypeError as error:
        raise Unfit(
            f"is stored as a dict, which cannot be read as {short(cls.__name__)}{_misfit(cls, items)}"
        ) from error


def _misfit(cls: Any, items: dict[str, Any]) -> str:
    """Why a constructor does not take these, in Python's words, which name arguments and hold no values."""
    try:
        inspect.signature(cls).bind(**items)
    except TypeError as error:
        return f": {short(str(error))}"
    except ValueError:
        pass  # it has no signature
    return ""


def _read_typed_dict(cls: Any, arguments: tuple[Any, ...], strict: bool, value: Any) -> Any:
    return _read_items(cls, arguments, strict, value)


def _read_named_tuple(cls: Any, arguments: tuple[Any, ...], strict: bool, value: Any) -> Any:
    if not isinstance(value, list):
        raise TypeError
    readers = _field_readers(cls, arguments, strict)
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


LISTS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable), list),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    tuple: tuple,
    frozenset: frozenset,
    deque: deque,
}
_PARSERS: dict[Any, Reader] = {
    datetime: datetime.fromisoformat,
    date: _read_date,
    time: time.fromisoformat,
    timedelta: _read_duration,
    UUID: UUID,
    Decimal: lambda value: Decimal(str(value)),
    bytes: functools.partial(base64.b64decode, validate=True),
    bytearray: lambda value: bytearray(base64.b64decode(value, validate=True)),
}
