"""The codec: what goes in comes back as declared; what cannot is refused with its path before anything is written."""

from __future__ import annotations

import functools
import json
import math
import re
import sys
import types
import typing
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, Union
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgqueue.codec.calls import Codec, encode_plain
from pgqueue.errors import InvalidArguments, InvalidOption, InvalidResult
from tests.untyped import untyped

if TYPE_CHECKING:
    from typing import Any as Ghost  # there is none when the tests run

LIMIT = 1_000_000
NAME = "shop.send_email"


class Color(Enum):
    RED = "red"
    BLUE = (0, 0, 255)
    BORN = date(2024, 1, 2)


class Level(IntEnum):
    LOW = 0
    HIGH = 1


class Size(StrEnum):
    S = "s"
    XL = "xl"


class Access(Flag):
    READ = 1
    WRITE = 2


class Odd(Enum):
    FINE = 1
    BROKEN = object()


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


@dataclass(frozen=True)
class Event:
    at: datetime
    by: UUID
    color: Color = Color.RED
    places: tuple[Point, ...] = ()


@dataclass
class Tree:
    born: date
    children: list[Tree] = field(default_factory=list)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = 1 + sum(child.size for child in self.children)


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError(f"{self.number} is odd")


class Visit(NamedTuple):
    who: UUID
    when: date = date(2000, 1, 1)


Bare = namedtuple("Bare", "a b")


class Options(TypedDict, total=False):
    retries: int
    at: datetime


class Model:
    """The two methods of a pydantic model that count."""

    def __init__(self, when: datetime) -> None:
        self.when = when

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and self.when == other.when

    def model_dump(self, *, mode: str) -> dict[str, object]:
        assert mode == "json"
        return {"when": self.when.isoformat()}

    @classmethod
    def model_validate(cls, value: Any) -> Model:
        return cls(datetime.fromisoformat(value["when"]))


class Socket:
    pass


class Selfish:
    def model_dump(self, *, mode: str) -> Selfish:
        return self


class Broken:
    def model_dump(self, *, mode: str) -> object:
        raise OSError("secret")


UserId = NewType("UserId", UUID)
ID = UUID("12345678-1234-5678-1234-567812345678")
NOON = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))


def any_call(*args: Any, **kwargs: Any) -> Any: ...


def send_email(to: Any, subject: str = "hi", *, copies: int = 0) -> None: ...


def generic(of: type, *parts: Any) -> types.GenericAlias:
    """As `of[parts]`, of classes and aliases that are made only here."""
    return types.GenericAlias(of, parts)


def annotated(hint: Any) -> Codec:
    """The codec of a task `def take(value: hint) -> hint`."""

    def take(value: object) -> object: ...

    take.__annotations__ = {"value": hint, "return": hint}
    return Codec(take, name=NAME)


def round_trip(value: object, hint: Any = Any, *, check_types: bool = True) -> Any:
    codec = annotated(hint)
    args, kwargs = codec.encode((value,), {}, max_bytes=LIMIT, check_types=check_types)
    named_args, named = codec.encode((), {"value": value}, max_bytes=LIMIT, check_types=check_types)
    assert (named_args, named) == ("[]", f'{{"value":{args[1:-1]}}}')
    [positional], by_name = codec.decode(args, kwargs)
    assert by_name == {}
    by_result = codec.decode_result(codec.encode_result(value, max_bytes=LIMIT))
    assert repr(by_result) == repr(positional) or by_result == positional
    return positional


def refusal(value: object, function: Callable[..., object] = send_email) -> str:
    """The message for a call with this one argument; the same problem must be found in a result and in plain values."""
    with pytest.raises(InvalidArguments) as refused:
        Codec(function, name=NAME).encode((value,), {}, max_bytes=LIMIT)
    with pytest.raises(InvalidResult):
        Codec(function, name=NAME).encode_result(value, max_bytes=LIMIT)
    with pytest.raises(InvalidOption):
        encode_plain(value, path="app.enqueue: args", max_bytes=LIMIT, error=InvalidOption)
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 700
    message.encode()
    return message


# -- the text --


def test_the_text_is_compact_json_in_utf8() -> None:
    codec = Codec(send_email, name=NAME)
    assert codec.encode(("zoë 😀",), {"subject": "a, b"}, max_bytes=LIMIT) == ('["zoë 😀"]', '{"subject":"a, b"}')
    assert codec.encode((None,), {}, max_bytes=LIMIT) == ("[null]", "{}")
    assert codec.encode((), {"to": [True, 1]}, max_bytes=LIMIT) == ("[]", '{"to":[true,1]}')


def test_kwargs_may_be_any_mapping() -> None:
    kwargs = types.MappingProxyType({"to": {"a": 1}})
    assert Codec(send_email, name=NAME).encode((), kwargs, max_bytes=LIMIT) == ("[]", '{"to":{"a":1}}')


SAME = [
    None,
    True,
    0,
    2**63 + 1,
    10**400,
    -(10**4299),
    1e22,
    1.797e308,
    5e-324,
    -0.0,
    0.1,
    "",
    "\\u0000",  # a backslash and a letter, not NUL
    "\\\\u0000",
    "\x01\x1f\x7f\u2028",
    "é e\u0301 😀 שלום \U0010ffff",
    [],
    {},
    [[[]], {"": {}}],
    {"a b": [1, 2.5, None], "é": {"\\u0000": "\\u0000"}},
]


def shown(value: object) -> str:
    """Its repr without what differs between the processes of pytest-xdist: addresses, and the order of sets."""
    if isinstance(value, set):
        return f"{{{', '.join(sorted(map(repr, value)))}}}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


@pytest.mark.parametrize("value", SAME, ids=lambda value: ascii(value)[:20])
def test_b6_b7_b8_b15_json_values_come_back_the_same(value: object) -> None:
    assert repr(round_trip(value)) == repr(value)
    assert repr(round_trip([value])) == repr([value])


PLAIN = [
    (NOON, "2024-02-29T12:00:00.123456+05:45"),
    (datetime(2024, 1, 2), "2024-01-02T00:00:00"),
    (date(2024, 1, 2), "2024-01-02"),
    (time(1, 2, 3), "01:02:03"),
    (timedelta(days=1, microseconds=500_000), "PT86400.5S"),
    (-timedelta(seconds=90), "-PT90S"),
    (ID, str(ID)),
    (Decimal("1.50"), "1.50"),
    (b"\x00\xff", "AP8="),
    (bytearray(b"a"), "YQ=="),
    (Color.RED, "red"),
    (Color.BLUE, [0, 0, 255]),
    (Color.BORN, "2024-01-02"),
    (Level.HIGH, 1),
    (Size.XL, "xl"),
    (Access.READ | Access.WRITE, 3),
    (Point(1, 2.5), {"x": 1, "y": 2.5}),
    (Visit(ID), [str(ID), "2000-01-01"]),
    ((1, (2,)), [1, [2]]),
    ({"b", "a", "c"}, ["a", "b", "c"]),
    (frozenset({2, 1}), [1, 2]),
    (Path("/tmp/a b"), "/tmp/a b"),
    (Model(datetime(2024, 1, 2)), {"when": "2024-01-02T00:00:00"}),
    ({Size.S: 1}, {"s": 1}),
    ([NOON.date(), {"k": Decimal(1)}], ["2024-02-29", {"k": "1"}]),
]


@pytest.mark.parametrize(("value", "stored"), PLAIN, ids=shown)
def test_known_types_are_stored_without_annotations_and_stay_plain(value: object, stored: object) -> None:
    codec = Codec(lambda value: None, name=NAME)
    texts = codec.encode((value,), {}, max_bytes=LIMIT)
    assert codec.decode(*texts) == ([stored], {})
    assert json.loads(encode_plain(value, path="x", max_bytes=LIMIT)) == stored


TYPED = [
    (datetime, NOON),
    (datetime, datetime.max),
    (datetime, datetime.min.replace(tzinfo=UTC)),
    (date, date.min),
    (date, NOON),  # a datetime is a date
    (time, time(23, 59, 59, 999999, tzinfo=UTC)),
    (timedelta, timedelta.max),
    (timedelta, timedelta.min),
    (timedelta, timedelta(0)),
    (timedelta, -timedelta(microseconds=1)),
    (UUID, ID),
    (UserId, ID),
    (Decimal, Decimal("-0.00")),
    (Decimal, Decimal("1E+400")),
    (bytes, bytes(range(256))),
    (bytes, b""),
    (Color, Color.RED),
    (Color, Color.BLUE),
    (Color, Color.BORN),
    (Level, Level.LOW),
    (Size, Size.S),
    (Access, Access.READ | Access.WRITE),
    (Odd, Odd.FINE),
    (Path, Path("/a/é")),
    (PurePosixPath, PurePosixPath("a/b")),
    (Point, Point(1)),
    (Event, Event(NOON, ID, Color.BLUE, (Point(1), Point(2, 3.5)))),
    (Tree, Tree(date(2024, 1, 1), [Tree(date(2024, 1, 2)), Tree(date(2024, 1, 3), [Tree(date(2024, 1, 4))])])),
    (Visit, Visit(ID, date(2024, 1, 1))),
    (Bare, Bare(1, "x")),
    (Model, Model(datetime(2024, 1, 1))),
    (Model | None, None),
    (Options, {"retries": 3}),
    (tuple, (1, "a")),
    (tuple[int, ...], (1, 2)),
    (tuple[()], ()),
    (tuple[int, date, tuple[UUID]], (1, date(2024, 1, 1), (ID,))),
    (set, {1, 2}),
    (set[UUID], {ID}),
    (frozenset[tuple[int, int]], frozenset({(1, 2), (3, 4)})),
    (list[Any], [1, "a"]),
    (list[date], [date(2024, 1, 1)]),
    (Sequence[date], [date(2024, 1, 1)]),
    (dict[str, list[datetime]], {"a": [NOON], "b": []}),
    (Mapping[str, UUID], {"a": ID}),
    (dict[Size, int], {Size.XL: 1}),
    (typing.Counter[str], typing.Counter({"a": 1})),
    (typing.List[date], [date(2024, 1, 1)]),  # noqa: UP006
    (Optional[date], None),  # noqa: UP045
    (Optional[date], date(2024, 1, 1)),  # noqa: UP045
    (date | None, date(2024, 1, 1)),
    (int | str | None, None),
    (Union[int, datetime], NOON),  # noqa: UP007
    (int | datetime, 3),
    (datetime | date, date(2024, 1, 1)),
    (date | datetime, NOON),
    (UUID | str, ID),
    (UUID | str, "no uuid"),
    (UUID | str, ID.hex),  # what a UUID would not be stored as stays what it is
    (Decimal | int, 5),
    (float | int, 5),
    (int | float, 5.0),
    (int | bool, True),
    (list[int] | list[date], [date(2024, 1, 1)]),
    (dict[str, int] | dict[str, date], {"a": date(2024, 1, 1)}),
    (Point | Visit, Visit(ID)),
    (Point | Event, Event(NOON, ID)),
    (Options | date, date(2024, 1, 1)),
    (Color | int, Color.BORN),
    (Literal["a", 1], 1),
    (Literal["a"], "a"),
    (Literal[Color.BLUE, None], Color.BLUE),
    (Annotated[date, "since"], date(2024, 1, 1)),
    (list[Annotated[date, "since"]], [date(2024, 1, 1)]),
    (Any, [1]),
    (object, "x"),
    (Socket, {"unknown": "class"}),
    (typing.TypeVar("T"), 1),
    (Callable[[int], int], 1),
]


@pytest.mark.parametrize(("hint", "value"), TYPED, ids=shown)
def test_b18_b19_annotated_types_are_restored(hint: Any, value: object) -> None:
    back = round_trip(value, hint)
    assert back == value
    assert type(back) is type(value)


def test_restoring_reaches_into_containers() -> None:
    back = round_trip(Event(NOON, ID, places=(Point(1, 2),)), Event)
    assert type(back.places) is tuple
    assert type(back.places[0]) is Point
    assert type(back.places[0].y) is float
    assert round_trip(Tree(date(2024, 1, 1), [Tree(date(2024, 1, 2))]), Tree).size == 2


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        (int, 1.5, 1.5),  # restoring is no validation
        (int, "5", "5"),
        (str | None, 5, 5),
        (list[str], "abc", "abc"),
        (list[date], (date(2024, 1, 1),), [date(2024, 1, 1)]),
        (tuple[int, ...], [1], (1,)),
        (set[int], [1, 1], {1}),
        (Decimal, 1.5, Decimal("1.5")),
        (datetime, "2024-01-01", datetime(2024, 1, 1)),
    ],
    ids=shown,
)
def test_other_values_than_declared_are_refused_unless_the_setting_lets_them_pass(
    hint: Any, given: object, expected: object
) -> None:
    with pytest.raises(InvalidArguments, match=rf"^{NAME}: argument value.* is an? .*, but .* is declared"):
        round_trip(given, hint)
    back = round_trip(given, hint, check_types=False)
    assert back == expected
    assert type(back) is type(expected)


def test_a_default_of_none_makes_a_parameter_optional() -> None:
    nothing: Any = None

    def report(since: date = nothing) -> None: ...

    codec = Codec(report, name=NAME)
    assert codec.decode(*codec.encode((None,), {}, max_bytes=LIMIT)) == ([None], {})


def test_rest_and_extra_parameters_are_restored_each() -> None:
    def take(first: date, /, *rest: UUID, only: Path, **extra: Decimal) -> None: ...

    codec = Codec(take, name=NAME)
    args, kwargs = (date(2024, 1, 1), ID, ID), {"only": Path("a"), "first": Decimal(1), "b": Decimal(2)}
    assert codec.decode(*codec.encode(args, kwargs, max_bytes=LIMIT)) == (list(args), kwargs)
    with pytest.raises(InvalidArguments, match=r"shop.send_email: argument rest\[1\] is stored as an int"):
        codec.decode(f'["2024-01-01", "{ID}", 5]', '{"only": "a"}')


def test_unresolvable_annotations_stay_plain_and_the_others_work() -> None:
    def haunt(ghost: Ghost, ghosts: list[Ghost], at: date) -> Ghost: ...

    codec = Codec(haunt, name=NAME)
    texts = codec.encode(("2024-01-01", [1], date(2024, 1, 1)), {}, max_bytes=LIMIT)
    assert codec.decode(*texts) == (["2024-01-01", [1], date(2024, 1, 1)], {})
    assert codec.decode_result('"x"') == "x"


def test_forward_references_are_resolved_at_first_use() -> None:
    module: dict[str, Any] = {"__name__": "later"}
    exec("def take(value: 'Later'): ...", module)
    codec = Codec(module["take"], name=NAME)
    module["Later"] = date
    assert codec.decode('["2024-01-01"]', "{}") == ([date(2024, 1, 1)], {})


def test_decorated_functions_partials_and_builtins() -> None:
    def take(at: date, by: int = 1) -> date:
        return at

    @functools.wraps(take)
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    assert Codec(wrapper, name=NAME).decode('["2024-01-01"]', "{}") == ([date(2024, 1, 1)], {})
    partial = Codec(functools.partial(take, by=2), name=NAME)
    assert partial.decode(*partial.encode(("x",), {}, max_bytes=LIMIT)) == (["x"], {})
    assert Codec(max, name=NAME).encode((1, 2), {}, max_bytes=LIMIT) == ("[1,2]", "{}")


def test_type_aliases_may_be_recursive() -> None:
    class Alias:  # as `type X = ...` makes it from Python 3.12 on
        __value__: Any

    day, tree = Alias(), Alias()
    day.__value__ = Annotated[date, "day"]
    tree.__value__ = generic(tuple, day, generic(list, tree))
    value: Any = (date(2024, 1, 1), [(date(2024, 1, 2), [])])
    assert round_trip(value, tree) == value


def test_pydantic_models() -> None:
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", at=(datetime, ...), ids=(set[UUID], ...))
    outer = pydantic.create_model("Outer", inner=(inner, ...), size=(int, 3))
    value = outer(inner=inner(at=NOON, ids={ID}))
    assert round_trip(value, outer) == value
    outers = generic(list, outer)
    assert round_trip([value], outers) == [value]
    with pytest.raises(
        InvalidArguments, match=r"argument value\[0\] is stored as a dict, which cannot be read as Outer$"
    ):
        annotated(outers).decode('[[{"inner": "hunter2"}]]', "{}")


# -- wrong calls --


WRONG_CALLS: list[tuple[tuple[object, ...], dict[str, object]]] = [
    ((), {}),
    ((1, 2, 3), {}),
    ((1,), {"to": 2}),
    ((1,), {"cc": 2}),
    ((), {"subject": "x"}),
]


@pytest.mark.parametrize(("args", "kwargs"), WRONG_CALLS)
def test_a_wrong_call_says_what_python_says(args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError) as expected:
        send_email(*args, **kwargs)
    with pytest.raises(TypeError) as actual:
        Codec(send_email, name=NAME).encode(args, kwargs, max_bytes=LIMIT)
    assert str(actual.value) == f"{NAME}: {expected.value}"


def test_the_call_itself_is_never_made() -> None:
    def explode(value: int, default: Any = sys) -> None:
        raise AssertionError

    codec = Codec(explode, name=NAME)
    assert codec.decode(*codec.encode((1,), {}, max_bytes=LIMIT)) == ([1], {})


@pytest.mark.parametrize(
    ("args", "kwargs", "shapes"),
    [
        ("[1, 2]", "{}", "stored (a, b), task takes (a, b, c, d=...)"),
        ("[1]", '{"b": 2}', "stored (a, b), task takes (a, b, c, d=...)"),
        ("[1, 2, 3, 4, 5]", "{}", "stored (a, b, c, d, #5), task takes (a, b, c, d=...)"),
        ("[1, 2, 3]", '{"e": 2}', "stored (a, b, c, e), task takes (a, b, c, d=...)"),
        ("[1, 2, 3]", '{"a": 2}', "stored (a, b, c, a), task takes (a, b, c, d=...)"),
    ],
)
def test_a_changed_signature_shows_both_shapes(args: str, kwargs: str, shapes: str) -> None:
    def task(a: int, b: int, c: int, d: int = 4) -> None: ...

    with pytest.raises(InvalidArguments) as refused:
        Codec(task, name=NAME).decode(args, kwargs)
    assert str(refused.value) == f"{NAME}: signature changed: {shapes}"


# -- what is refused at defer --


def cyclic() -> list[object]:
    value: list[object] = []
    value.append({"again": value})
    return value


def nested(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


REFUSED = [
    ("\0", "argument to contains NUL"),
    ({"name": "a\0b"}, "argument to.name contains NUL"),
    (["x", {"a b": ["\0"]}], "argument to[1]['a b'][0] contains NUL"),
    ({"a\0": 1}, "argument to has a key that contains NUL"),
    ([{"\ud800": 1}], "argument to[0] has a key that contains a lone surrogate"),
    ("a\udcff", "argument to contains a lone surrogate"),
    ([Path("\udcff")], "argument to[0] contains a lone surrogate"),
    (math.nan, "argument to is NaN or infinite"),
    ([1, -math.inf], "argument to[1] is NaN or infinite"),
    (Point(1, math.inf), "argument to.y is NaN or infinite"),
    ({1: "a"}, "argument to has an int as a key"),
    ({"a": {None: "a"}}, "argument to.a has a NoneType as a key"),
    ({True: "a"}, "argument to has a bool as a key"),
    ({(1, 2): "a"}, "argument to has a tuple as a key"),
    (10**4300, "argument to is an int of more than 4,300 digits"),
    ([-(10**5000)], "argument to[0] is an int of more than 4,300 digits"),
    (cyclic(), "nested more than 100 levels deep, or contains itself"),
    (nested(102), "nested more than 100 levels deep"),
    (nested(5000), "nested more than 100 levels deep"),
    (functools.reduce(lambda inner, _: {"k": inner}, range(5000), untyped(1)), "nested more than 100 levels deep"),
    (Selfish(), "nested more than 100 levels deep"),
    ([Broken()], "argument to[0] is a Broken, and writing it raised OSError"),
    (
        [1, 2, {"name": Socket()}],
        "argument to[2].name is a Socket, which JSON cannot hold; pass an id or a plain value",
    ),
    (Visit(untyped(Socket())), "argument to[0] is a Socket"),
    (Odd.BROKEN, "argument to is an object"),
    (Socket, "argument to is a type"),
    (Point, "argument to is a type"),
    (len, "argument to is a builtin_function_or_method"),
    (object(), "argument to is an object"),
    (1j, "argument to is a complex"),
    (range(3), "argument to is a range"),
    ((number for number in range(3)), "argument to is a generator"),
    (ValueError("secret"), "argument to is a ValueError"),
]


@pytest.mark.parametrize(("value", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
def test_b1_b2_b5_b9_b12_b14_b18_b20_b22_what_json_or_the_database_cannot_hold_is_refused_by_path(
    value: object, problem: str
) -> None:
    message = refusal(value)
    assert message.startswith(f"{NAME}: argument to")
    assert problem in message
    assert "secret" not in message


def test_100_levels_are_fine() -> None:
    assert round_trip(nested(100)) == nested(100)


def test_an_open_file_and_a_coroutine_are_refused() -> None:
    async def work() -> None: ...

    with Path(__file__).open() as file:
        assert "argument to is a TextIOWrapper" in refusal(file)
    coroutine = work()
    try:
        assert "argument to is a coroutine, which JSON cannot hold; did you forget await?" in refusal(coroutine)
        with pytest.raises(InvalidResult) as refused:
            Codec(send_email, name=NAME).encode_result(coroutine, max_bytes=LIMIT)
    finally:
        coroutine.close()
    assert str(refused.value) == f"{NAME}: the task returned a coroutine: did you forget await?"


def test_refusals_by_keyword_rest_and_plain_path() -> None:
    codec = Codec(any_call, name=NAME)
    with pytest.raises(InvalidArguments, match=rf"^{NAME}: argument args\[1\]\[0\] is a Socket"):
        codec.encode((1, [Socket()]), {}, max_bytes=LIMIT)
    with pytest.raises(InvalidArguments, match=rf"^{NAME}: argument key is NaN"):
        codec.encode((), {"key": math.nan}, max_bytes=LIMIT)
    with pytest.raises(InvalidArguments, match=rf"^{NAME}: the call has a key that contains NUL"):
        codec.encode((), {"k\0": 1}, max_bytes=LIMIT)
    with pytest.raises(InvalidOption, match=r"^app.enqueue: headers\.x is a Socket"):
        encode_plain({"x": Socket()}, path="app.enqueue: headers", max_bytes=LIMIT, error=InvalidOption)
    with pytest.raises(InvalidResult, match=rf"^{NAME}: result\[0\] is a Socket"):
        codec.encode_result([Socket()], max_bytes=LIMIT)


def test_the_cause_of_a_refusal_goes_along() -> None:
    with pytest.raises(InvalidArguments) as refused:
        Codec(any_call, name=NAME).encode((Broken(),), {}, max_bytes=LIMIT)
    assert isinstance(refused.value.__cause__, OSError)


def test_a_long_path_is_cut() -> None:
    assert len(refusal({"k" * 100_000: math.nan})) < 400


def test_size_counts_bytes_of_utf8_over_both_texts() -> None:
    codec = Codec(send_email, name=NAME)
    args, kwargs = codec.encode(("é" * 10,), {"subject": "x"}, max_bytes=LIMIT)
    size_bytes = len(args.encode()) + len(kwargs.encode())
    assert codec.encode(("é" * 10,), {"subject": "x"}, max_bytes=size_bytes) == (args, kwargs)
    with pytest.raises(InvalidArguments) as refused:
        codec.encode(("é" * 10,), {"subject": "x"}, max_bytes=size_bytes - 1)
    assert f"{NAME}: {size_bytes} bytes of JSON are more than the limit of {size_bytes - 1}; keep" in str(refused.value)


def test_b23_oversized_values_are_refused_without_echo() -> None:
    with pytest.raises(InvalidResult, match=r"^shop.send_email: result: 2,000,002 bytes .* limit of 1,000,000; keep"):
        Codec(send_email, name=NAME).encode_result("x" * 2_000_000, max_bytes=LIMIT)
    assert "xxx" not in refusal("x" * 2_000_000)


def test_a_nearly_full_stack_is_no_recursion_error() -> None:
    codec = Codec(send_email, name=NAME)
    codec.encode(([],), {}, max_bytes=LIMIT)

    limit = sys.getrecursionlimit()
    frame, depth = sys._getframe().f_back, 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + 200)
    try:
        with pytest.raises(InvalidArguments, match="nested more than"):
            codec.encode((nested(5000),), {}, max_bytes=LIMIT)
    finally:
        sys.setrecursionlimit(limit)


# -- what is refused on the way back --


HOSTILE = [
    "",
    " ",
    "[",
    "[1,]",
    "{'a': 1}",
    "[NaN]",
    "[-Infinity]",
    "[1e400]",
    "[] []",
    "[" * 100_000,
    "[" * 100_000 + "]" * 100_000,
    '[{"a":' * 50_000 + "1" + "}]" * 50_000,
    f"[{'9' * 5000}]",
    '["\x00"]',
    "null",
    "{}",
    '"abc"',
    "\ufeff[]",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_b13_hostile_texts_are_one_clear_line(text: str) -> None:
    with pytest.raises(InvalidArguments, match=r"^shop\.send_email: the stored arguments are not") as refused:
        Codec(any_call, name=NAME).decode(text, "{}")
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["[]", "null", '{"a":', "{} x", '{"a": NaN}'])
def test_hostile_kwargs(text: str) -> None:
    with pytest.raises(InvalidArguments, match=r"^shop\.send_email: the stored arguments are not"):
        Codec(any_call, name=NAME).decode("[]", text)


def test_hostile_results() -> None:
    codec = annotated(date)
    for text in ["[" * 100_000, "NaN", "", "9" * 5000]:
        with pytest.raises(InvalidResult, match=r"^shop\.send_email: the stored result is not JSON"):
            codec.decode_result(text)
    with pytest.raises(
        InvalidResult, match=r"^shop\.send_email: result is stored as an int, which cannot be read as date$"
    ):
        codec.decode_result("5")
    assert codec.decode_result(None) is None


def test_b21_spaces_and_duplicate_keys_of_hand_written_json() -> None:
    assert Codec(any_call, name=NAME).decode(" [1]\n", '\t{"a": 1, "a": 2} ') == ([1], {"a": 2})


UNREADABLE = [
    (datetime, "tomorrow", "argument value is stored as a str, which cannot be read as datetime"),
    (datetime, 5, "argument value is stored as an int, which cannot be read as datetime"),
    (datetime, None, "argument value is stored as a NoneType"),
    (date, "2024-13-01", "read as date"),
    (date, 5, "read as date"),
    (time, "25:00", "read as time"),
    (timedelta, "P1Y", "read as timedelta"),
    (timedelta, "PT" + "9" * 30 + "S", "read as timedelta"),
    (UUID, 5, "read as UUID"),
    (UUID, "x" * 1000, "read as UUID"),
    (Decimal, "x", "read as Decimal"),
    (Decimal, True, "read as Decimal"),
    (bytes, "a", "read as bytes"),
    (bytes, "é", "read as bytes"),
    (Path, 5, "read as Path"),
    (Color, "green", "read as Color"),
    (Color, {"a": []}, "read as Color"),
    (Literal["a", "b"], "c", "read as typing.Literal['a', 'b']"),
    (Literal[1], True, "read as typing.Literal[1]"),
    (float, 10**400, "read as float"),
    (Point, {"x": 1, "z": 2}, "argument value is stored as a dict, which cannot be read as Point"),
    (Point, {}, "read as Point"),
    (Point, [1, 2], "read as Point"),
    (Even, {"number": 3}, "read as Even"),
    (Event, {"at": "never", "by": str(ID)}, "argument value.at is stored as a str, which cannot be read as datetime"),
    (Visit, ["x"], "argument value[0] is stored as a str, which cannot be read as UUID"),
    (Visit, [str(ID), "2024-01-01", 3], "read as Visit"),
    (Visit, "ab", "read as Visit"),
    (tuple[int, int], [1], "read as tuple"),
    (list[date], "2024-01-01", "read as list"),
    (list[date], ["2024-01-01", "x"], "argument value[1] is stored as a str"),
    (dict[str, date], {"a b": "x"}, "argument value['a b'] is stored as a str"),
    (dict[str, date], [1], "read as dict"),
    (set[Any], [[1]], "read as set"),
    (int | date, "x", "argument value is stored as a str, which cannot be read as any of int, date"),
    (int | date, None, "cannot be read as any of int, date"),
    (Model, {}, "read as Model"),
]


@pytest.mark.parametrize(("hint", "stored", "problem"), UNREADABLE, ids=shown)
def test_values_that_do_not_fit_the_annotation(hint: Any, stored: object, problem: str) -> None:
    with pytest.raises(InvalidArguments) as refused:
        annotated(hint).decode(json.dumps([stored]), "{}")
    message = str(refused.value)
    assert message.startswith(f"{NAME}: argument value")
    assert problem in message
    assert len(message) < 300


def test_s10_the_data_never_chooses_a_class() -> None:
    stored = {"__class__": "os.system", "py/object": "os.system", "__reduce__": ["id"]}
    assert round_trip(stored) == stored


def test_deep_data_for_a_recursive_class() -> None:
    text = '[{"born": "2024-01-01", "children": ' * 500 + "[]" + "}]" * 500
    with pytest.raises(InvalidArguments, match=r"^shop\.send_email: "):
        annotated(list[Tree]).decode(f"[{text}]", "{}")


# -- properties --

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | floats | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=15)
zones = st.none() | st.timezones() | st.just(UTC)
points = st.builds(Point, st.integers(), floats)
events = st.builds(
    Event,
    st.datetimes(timezones=zones).map(lambda moment: moment.replace(fold=0)),
    st.uuids(),
    st.sampled_from(Color),
    st.lists(points, max_size=3).map(tuple),
)


@given(values)
def test_any_json_value_survives_as_argument_and_result(value: object) -> None:
    assert repr(round_trip(value)) == repr(value)


@given(st.lists(values, max_size=4), st.dictionaries(texts, values, max_size=4))
def test_any_call_survives(args: list[object], kwargs: dict[str, object]) -> None:
    codec = Codec(any_call, name=NAME)
    stored = codec.encode(tuple(args), kwargs, max_bytes=LIMIT)
    assert repr(codec.decode(*stored)) == repr((args, kwargs))
    assert [json.loads(text) for text in stored] == [args, kwargs]


@given(
    st.sampled_from(
        [
            (timedelta, st.timedeltas()),
            (Decimal, st.decimals(allow_nan=False)),
            (bytes, st.binary()),
            (date, st.dates()),
            (time, st.times()),
            (UUID, st.uuids()),
            (float, floats | st.integers(-(2**53), 2**53)),
            (frozenset[int], st.frozensets(st.integers())),
            (tuple[date, ...], st.lists(st.dates()).map(tuple)),
            (dict[str, UUID | None], st.dictionaries(texts, st.none() | st.uuids())),
            (
                list[int | datetime | list[date]],
                st.lists(st.integers() | st.datetimes() | st.lists(st.dates(), min_size=1)),
            ),
        ]
    ).flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1]))
)
def test_any_typed_value_survives(pair: tuple[Any, object]) -> None:
    hint, value = pair
    assert round_trip(value, hint) == value


@given(st.lists(events, max_size=3))
def test_any_dataclass_survives(value: list[Event]) -> None:
    for before, after in zip(value, round_trip(value, list[Event]), strict=True):
        assert after.at.isoformat() == before.at.isoformat()  # the zone's name is lost, its offset is not
        assert replace(after, at=before.at) == before


@given(st.sets(texts | st.integers()))
def test_equal_sets_are_equal_texts(value: set[str | int]) -> None:
    ordered = sorted(value, key=repr)
    other = set(ordered)
    assert encode_plain(value, path="x", max_bytes=LIMIT) == encode_plain(other, path="x", max_bytes=LIMIT)


@given(st.text() | st.text(alphabet='[]{}",:0123456789eE+-.nulltruefase\\ \0\ud800'))
@settings(max_examples=300)
def test_s36_decoding_any_text_gives_values_or_invalid_arguments(text: str) -> None:
    for codec in (Codec(any_call, name=NAME), annotated(list[Event] | date)):
        try:
            codec.decode(text, "{}")
        except InvalidArguments as error:
            assert str(error).startswith(NAME)


@given(
    st.recursive(
        scalars | st.text() | st.floats() | st.just(Socket()),
        lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner),
        max_leaves=10,
    )
)
def test_s36_encoding_anything_gives_storable_json_or_invalid_arguments(value: object) -> None:
    try:
        text = encode_plain(value, path="x", max_bytes=LIMIT)
    except InvalidArguments:
        return
    assert "\0" not in json.dumps(json.loads(text.encode()), ensure_ascii=False)
