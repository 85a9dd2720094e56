"""Whether a value comes back as its annotation declares: proven at `defer`, before anything is written.

There are two questions. Does the value have the declared type, as a type checker sees it (a bool is an int, an int is a
float if the float is equal)? That is a `Check`, made once for each annotation; the setting `check_types` turns it off. And
does the worker read what was given? Values of exactly a built-in type do, by that type alone, and so do containers of them:
for these the check is all. All others (classes with fields, models, enums, Mappings, subclasses of built-in types, unions
whose members are stored alike) are written, read back and compared, and no setting turns that off.

What comes back is the same if it is of the same class, all the way down, and equal: containers and classes with fields part by
part (of a field that neither the constructor takes nor equality looks at, nothing is asked), moments by their ISO 8601 text,
which knows the offset, others by their own ==. Objects without an == of their own are the same if they are written as the same
JSON again: write(read(write(v))) == write(v). Four differences do not count: an int that comes back as the equal float, a value
of a subclass of a built-in type that comes back as the equal built-in one that was declared, a Mapping as the equal dict, a
frozenset as the equal set. But a tuple is not a list: for `Sequence`, read as a list, it is refused.
"""

import functools
import itertools
import types
import typing
from collections import ChainMap, abc, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from uuid import UUID

from pgqueue.codec.decode import LISTS, anatomy, hints_of, is_typed_dict, key_and_item, meaning, required_keys
from pgqueue.codec.encode import SCALARS, Reader, Unfit, a_type, dump, each, fields_of, parts_of, plain, short


class Lost(Unfit):
    """The value has the declared type, but would not come back as what it is."""


class Check(NamedTuple):
    """How to look at a value."""

    kinds: frozenset[Any]
    """Every value of exactly one of these types fits, and comes back."""
    test: Callable[[Any], bool]
    """Of any value. True: it fits and comes back. False: it fits; read it back and compare. Raises Unfit if it does not."""

    def passes(self, value: Any) -> bool:
        return type(value) in self.kinds or self.test(value)


def prove(value: Any, stored: Any, read: Reader) -> None:
    """Raise Lost unless what a worker reads from `stored`, the parsed JSON, is the value."""
    opaque: list[object] = []
    try:
        back = prove_readable(value, stored, read)
        _compare(opaque, value, back)
        if opaque and dump(plain(back)) != dump(stored):
            raise _other(value)
    except Unfit as unfit:
        raise Lost(unfit.problem, unfit.steps) from None


def prove_readable(_: Any, stored: Any, read: Reader) -> Any:
    """What a worker reads; raises Lost if it cannot."""
    try:
        return read(stored)
    except Unfit as unfit:  # without its cause, which may tell the value
        raise Lost(f"{unfit.problem}; pass an id or a plain value", unfit.steps) from None


# -- does it have the declared type --


def check_for(hint: Any) -> Check | None:
    """The check of a hint; None if anything fits."""
    kind, arguments = anatomy(hint)
    if kind is typing.Union or kind is types.UnionType:
        return _union_check(hint, arguments)
    if kind is typing.Literal:
        return Check(frozenset(), _literal_test(hint, arguments))
    if hasattr(kind, "__value__"):  # `type X = ...`, which may mention itself
        return Check(frozenset(), lambda value: _alias_check(kind, arguments).passes(value))
    if not isinstance(kind, type) or kind in (object, Any):  # Any is a class from Python 3.11 on
        return None
    return Check(*_class_check(kind, arguments, hint))


def optional(check: Check | None) -> Check | None:
    """The check that lets None pass too."""
    if check is None or types.NoneType in check.kinds:
        return check
    return Check(check.kinds | {types.NoneType}, lambda value: value is None or check.test(value))


@functools.cache
def _alias_check(alias: Any, arguments: tuple[Any, ...]) -> Check:
    return check_for(meaning(alias, arguments)) or _ANYTHING


def _class_check(cls: Any, arguments: tuple[Any, ...], hint: Any) -> tuple[frozenset[Any], Callable[[Any], bool]]:
    """In the order in which decode.py looks for a reader."""
    nothing: frozenset[Any] = frozenset()
    if issubclass(cls, Enum) or hasattr(cls, "model_validate"):
        return nothing, functools.partial(_test_class, cls, hint)
    if fields_of(cls) is not None or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
        return nothing, functools.partial(_test_fields, cls, arguments, hint)
    if is_typed_dict(cls):
        return nothing, functools.partial(_test_typed_dict, cls, arguments, hint)
    if issubclass(cls, abc.Mapping):
        return nothing, _mapping_test(cls, *key_and_item(cls, arguments), hint)
    if issubclass(cls, tuple):
        return nothing, _tuple_test(cls, arguments, hint)
    if cls in LISTS or issubclass(cls, (list, set, frozenset, deque)):
        return nothing, _list_test(cls, arguments, hint)
    if issubclass(cls, _VALUES):
        return _EXACT.get(cls, nothing), functools.partial(_test_value, cls, hint)
    return SCALARS, functools.partial(_test_unknown, hint)


def _test_class(cls: Any, hint: Any, value: Any) -> bool:
    if not isinstance(value, cls):
        raise _wrong(value, hint)
    return False


def _test_value(cls: Any, hint: Any, value: Any) -> bool:
    if cls is float and isinstance(value, int):
        return _test_float(value)
    return _test_class(cls, hint, value)


def _test_float(value: int) -> bool:
    try:
        if float(value) == value:
            return True
    except OverflowError:
        pass
    raise Lost("is an int that no float equals; pass a float, or declare int")


def _test_unknown(hint: Any, value: Any) -> bool:
    """Of a class that nothing can be read as: what is JSON already stays what it is."""
    if not _is_json(value):
        raise _wrong(value, hint, "which comes back as plain JSON; declare its own class")
    return True


def _is_json(value: Any) -> bool:
    kind = type(value)
    inside = value if kind is list else value.values() if kind is dict else None
    return kind in SCALARS if inside is None else all(map(_is_json, inside))


def _list_test(cls: Any, arguments: tuple[Any, ...], hint: Any) -> Callable[[Any], bool]:
    built = LISTS.get(cls, cls)
    wanted = (set, frozenset) if cls is abc.Set else built
    check = check_for(arguments[0]) if arguments else None
    if check is None and issubclass(built, (set, frozenset)):
        check = Check(SCALARS, lambda _: False)  # lists have no hash, so not everything comes back
    cure = f"which comes back as a {built.__name__}; pass one" if built is not cls else ""

    def test(value: Any) -> bool:
        if not isinstance(value, wanted):
            raise _wrong(value, hint, cure)
        return _all_pass(check, value) and type(value) is built and getattr(value, "maxlen", None) is None

    return test


def _all_pass(check: Check | None, items: Any) -> bool:
    if check is None or check.kinds.issuperset(map(type, items)):
        return True
    return all([*each(itertools.count(), itertools.repeat(check.passes), items)])


def _tuple_test(cls: Any, arguments: tuple[Any, ...], hint: Any) -> Callable[[Any], bool]:
    fixed = bool(arguments) and arguments[-1] is not Ellipsis
    checks = [check_for(argument) or _ANYTHING for argument in arguments if argument is not Ellipsis]

    def test(value: Any) -> bool:
        if not isinstance(value, cls) or (fixed and len(value) != len(checks)):
            raise _wrong(value, hint)
        if not fixed:
            return _all_pass(checks[0] if checks else None, value) and type(value) is tuple
        return all([*each(itertools.count(), [check.passes for check in checks], value)]) and type(value) is tuple

    return test


def _mapping_test(cls: Any, key: Any, item: Any, hint: Any) -> Callable[[Any], bool]:
    key_check, item_check = check_for(key), check_for(item)
    plainly = cls in (dict, abc.Mapping, abc.MutableMapping)

    def test(value: Any) -> bool:
        if not isinstance(value, cls):
            raise _wrong(value, hint)
        keys = _keys_pass(key_check, value)
        items = value.values()
        if item_check is None or item_check.kinds.issuperset(map(type, items)):
            return keys and plainly and type(value) is dict
        passed = all([*each(value, itertools.repeat(item_check.passes), items)])
        return passed and keys and plainly and type(value) is dict

    return test


def _keys_pass(check: Check | None, keys: Any) -> bool:
    if check is None or check.kinds.issuperset(map(type, keys)):
        return True
    try:
        return all([*map(check.passes, keys)])
    except Unfit as unfit:
        raise type(unfit)(f"has a key that {unfit.problem}") from None


def _literal_test(hint: Any, members: tuple[Any, ...]) -> Callable[[Any], bool]:
    known = {(type(member), member) for member in members}
    kinds = {kind for kind, _ in known}

    def test(value: Any) -> bool:
        if type(value) not in kinds or (type(value), value) not in known:
            raise _wrong(value, hint)
        return SCALARS.issuperset(kinds)

    return test


def _union_check(hint: Any, arguments: tuple[Any, ...]) -> Check | None:
    checks = [check_for(argument) for argument in arguments if argument is not types.NoneType]
    members = [check for check in checks if check is not None]
    if len(members) < len(checks):
        return None
    nullable = len(checks) < len(arguments)
    if len(members) == 1:
        return optional(members[0])

    def test(value: Any) -> bool:
        if value is None and nullable:
            return True
        lost = None
        for check in members:
            try:
                check.passes(value)
                return False  # another member may be stored alike
            except Lost as unfit:
                lost = lost or unfit
            except Unfit:
                pass
        raise lost or _wrong(value, hint)

    # Numbers and one kind of text cannot be taken for each other.
    texts = [check for check in members if not check.kinds or not check.kinds <= _NUMBERS]
    apart = all(check.kinds for check in members) and len(texts) <= 1 and not any(c.kinds is SCALARS for c in members)
    kinds = frozenset[Any]().union(*(check.kinds for check in members)) if apart else frozenset()
    return Check(kinds | {types.NoneType} if nullable else kinds, test)


def _test_typed_dict(cls: Any, arguments: tuple[Any, ...], hint: Any, value: Any) -> bool:
    _test_class(dict, hint, value)
    if missing := sorted(required_keys(cls) - value.keys()):
        named = short(cls.__name__)
        raise Unfit(f"lacks the key {missing[0]!r}, but {named} is declared; add it, or declare it NotRequired")
    checks = _field_checks(cls, arguments)
    passed = all([*each(value, (checks.get(name, _ANYTHING).passes for name in value), value.values())])
    return passed and type(value) is dict and value.keys() <= checks.keys()


def _test_fields(cls: Any, arguments: tuple[Any, ...], hint: Any, value: Any) -> bool:
    _test_class(cls, hint, value)
    given: Any = type(value)
    if given is not cls:
        raise Lost(f"is {a_type(given)}, which would come back as {a_type(cls)}; declare its own class")
    for name, check in _field_checks(cls, arguments).items():
        part = getattr(value, name)
        if type(part) not in check.kinds:
            with _step(name):
                check.test(part)
    return False


@functools.cache
def _field_checks(cls: Any, arguments: tuple[Any, ...]) -> dict[str, Check]:
    """By name. Resolved when the first value is looked at, so that a class may refer to itself."""
    checks = {name: check_for(hint) or _ANYTHING for name, hint in hints_of(cls, arguments).items()}
    fields = fields_of(cls)
    if fields is None:
        names = getattr(cls, "_fields", checks)
        return {name: check for name, check in checks.items() if name in names}
    known = {field.name: field.default is None for field in fields if field.key}
    return {name: (known[name] and optional(check)) or check for name, check in checks.items() if name in known}


def _wrong(value: Any, hint: Any, cure: str = "") -> Unfit:
    given = "None" if value is None else a_type(type(value))
    name = hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    declared = short(name.replace("typing.", "").replace("collections.abc.", ""))
    return Unfit(
        f"is {given}, but {declared} is declared{', ' + cure if cure else '; pass that, or declare what it is'}"
    )


# -- is what comes back the same --


def _compare(opaque: list[object], given: Any, back: Any) -> None:
    """Raise Lost, with the path, where they differ. `opaque` takes what only its JSON can tell."""
    if given is back:
        return
    cls = type(back)
    if not _is_same_class(type(given), cls):
        raise Lost(f"is {a_type(type(given))}, which would come back as {a_type(cls)}; declare its own class")
    parts = None if issubclass(cls, (set, frozenset)) else parts_of(cls)
    if parts is None:
        if not _is_same(opaque, given, back):
            raise _other(given)
        return
    ours, theirs = parts(given) if type(given) is cls else _parts(given), parts(back)
    if list(ours) != list(theirs) or (_is_framed(cls) and _frame(given) != _frame(back)):  # type: ignore[arg-type]
        raise _other(given)
    for step, part in ours.items():
        other = theirs[step]
        if part is not other and (type(part) is not type(other) or type(part) not in SCALARS or part != other):
            with _step(step):
                _compare(opaque, part, other)


@contextmanager
def _step(step: object) -> Iterator[None]:
    """What goes wrong inside learns where it was."""
    try:
        yield
    except Unfit as unfit:
        unfit.steps.append(step)
        raise


def _parts(value: Any) -> dict[Any, Any]:
    parts = parts_of(type(value))
    return parts(value) if parts else {}


@functools.lru_cache(maxsize=1000)
def _is_framed(cls: Any) -> bool:
    return issubclass(cls, (ChainMap, deque, defaultdict))


def _frame(value: Any) -> object:
    """What a container is apart from what it holds."""
    if isinstance(value, ChainMap):
        return value.maps
    return value.maxlen if isinstance(value, deque) else value.default_factory


def _is_same_class(given: Any, cls: Any) -> bool:
    if given is cls or given is bool:
        return given is cls
    return (
        (cls in _BASES and issubclass(given, cls))
        or (cls is float and issubclass(given, int))
        or (cls is dict and issubclass(given, Mapping))
        or (cls is set and issubclass(given, frozenset))
    )


def _is_same(opaque: list[object], given: Any, back: Any) -> bool:
    """Of values without parts."""
    if isinstance(back, Enum):
        return False  # its members are each themselves
    if isinstance(back, (datetime, time)):
        return bool(given.isoformat() == back.isoformat() and (given.tzinfo is None) == (back.tzinfo is None))
    if isinstance(back, Decimal):
        return str(given) == str(back)
    equals: Any = type(back).__eq__
    if equals is object.__eq__:
        opaque.append(back)
        return True
    try:
        return bool(given == back)
    except Exception:
        return False


def _other(value: Any) -> Lost:
    return Lost(f"is {a_type(type(value))}, which would come back as another one; pass an id or a plain value")


def _anything(_: object) -> bool:
    return True


_ANYTHING = Check(frozenset(), _anything)
_NUMBERS = frozenset({int, float, bool})
_EXACT: dict[Any, frozenset[Any]] = {
    **{cls: frozenset({cls}) for cls in (str, bool, types.NoneType, bytes, bytearray, UUID, Decimal)},
    **{cls: frozenset({cls}) for cls in (datetime, time, timedelta)},
    int: frozenset({int, bool}),
    float: frozenset({float, bool}),
    date: frozenset({date, datetime}),
    Path: frozenset({type(Path())}),
}
_VALUES = (*_EXACT, PurePath)
_BASES = frozenset({*_EXACT, list, tuple, set, frozenset, deque, dict})
