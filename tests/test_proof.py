"""What `defer` accepts comes back as declared: for every kind of type that people pass, the right value or a refusal."""

from __future__ import annotations

import collections
import enum
import numbers
import os
import types
import typing
from collections import ChainMap, Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    Required,
    TypedDict,
    TypeVar,
    Union,
    Unpack,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import numpy
import pandas  # type: ignore[import-untyped]  # its types are a package of their own
import pydantic
import pydantic.dataclasses
import pytest
import typing_extensions
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, Json, PrivateAttr, RootModel, SecretStr

from pgqueue.codec.calls import Codec
from pgqueue.errors import InvalidArguments, InvalidResult
from tests.untyped import untyped

LIMIT = 1_000_000
CANARY = "canary-that-no-message-repeats"
DAY = date(2024, 1, 2)
NOON = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
ID = UUID("12345678-1234-5678-1234-567812345678")
BERLIN = ZoneInfo("Europe/Berlin")
NOTHING: Any = None  # as a default, whatever is declared
T = TypeVar("T")


def codec_of(hint: Any) -> Codec:
    """The codec of a task `def take(value: hint) -> hint`."""

    def take(value: object) -> object: ...

    take.__annotations__ = {"value": hint, "return": hint}
    return Codec(take, name="shop.take")


def there_and_back(hint: Any, value: object, *, check_types: bool = True) -> Any:
    codec = codec_of(hint)
    stored = codec.encode((value,), {}, max_bytes=LIMIT, check_types=check_types)
    again = codec.encode((), {"value": value}, max_bytes=LIMIT, check_types=check_types)
    ([back], _), (_, named) = codec.decode(*stored), codec.decode(*again)
    assert repr(named["value"]) == repr(back)
    return back


def refusal(hint: Any, value: object, *, check_types: bool = True) -> str:
    codec = codec_of(hint)
    for args, kwargs in ((value,), {}), ((), {"value": value}):
        with pytest.raises(InvalidArguments) as refused:
            codec.encode(args, kwargs, max_bytes=LIMIT, check_types=check_types)
    message = str(refused.value)
    assert message.startswith("shop.take: argument value") and "\n" not in message and len(message) < 500
    assert CANARY not in message
    cause: BaseException | None = refused.value
    while cause is not None:
        assert CANARY not in str(cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return message


# -- pydantic --


class Alias(BaseModel):
    user_id: int = Field(alias="userId")


class TwoAliases(BaseModel):
    user_id: int = Field(validation_alias="uid", serialization_alias="UID")


class ByAlias(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    user_id: int = Field(validation_alias="uid", serialization_alias="UID")
    inner: Alias


class PathAlias(BaseModel):
    user_id: int = Field(validation_alias=pydantic.AliasPath("ids", 0))


class Crossed(BaseModel):
    a: int = Field(alias="b")
    b: int = Field(alias="a")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @pydantic.computed_field  # type: ignore[prop-decorator]  # mypy takes none above a property
    @property
    def double(self) -> int:
        return 2 * self.a


class WithJson(BaseModel):
    j: Json[Any]


class Excluding(BaseModel):
    a: int
    b: str = Field(default="x", exclude=True)


class ExcludingRequired(BaseModel):
    a: str = Field(exclude=True)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    ids: set[UUID]
    pair: tuple[int, Decimal]
    path: Path


class Login(BaseModel):
    password: SecretStr


class Logins(BaseModel):
    of: dict[str, list[Login]]


class Revealing(BaseModel):
    password: SecretStr

    @pydantic.field_serializer("password", when_used="json")
    def reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class Hashing(BaseModel):
    password: str

    @pydantic.field_validator("password")
    @classmethod
    def hash(cls, value: str) -> str:
        return f"{value}#"


class Animal(BaseModel):
    name: str


class Dog(Animal):
    barks: bool = True


class Puppy(Dog):
    pass


class Owner(BaseModel):
    pet: Animal


class Private(BaseModel):
    a: int
    _seen: int = PrivateAttr(default=0)


class Days(RootModel[list[date]]):
    pass


class Of(BaseModel, Generic[T]):
    item: T


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Blob(BaseModel):
    data: bytes


class Opening(BaseModel):
    at: time


class Opaque:
    """Without an == of its own."""

    def __init__(self, number: int) -> None:
        self.number = number


class WithOpaque(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    thing: Annotated[
        Opaque,
        pydantic.PlainSerializer(lambda thing: thing.number),
        pydantic.PlainValidator(lambda thing: thing if isinstance(thing, Opaque) else Opaque(thing)),
    ]


class Forgetful(BaseModel):
    thing: Annotated[
        Any,
        pydantic.PlainSerializer(lambda thing: thing.number),
        pydantic.PlainValidator(lambda thing: thing if isinstance(thing, Opaque) else Opaque(0)),
    ]


class Net(BaseModel):
    ip: pydantic.IPvAnyAddress
    url: pydantic.HttpUrl


@pydantic.dataclasses.dataclass
class Checked:
    at: datetime


# -- dataclasses --


@dataclass
class Event:
    id: int


@dataclass
class Paid(Event):
    amount: int = 0


@dataclass
class Renamed(Event):
    pass


@dataclass
class Rated:
    id: int
    rate: InitVar[int]


@dataclass
class RatedByDefault:
    id: int
    rate: InitVar[int] = 3
    total: int = field(init=False, default=0)

    def __post_init__(self, rate: int) -> None:
        self.total = self.id * rate


@dataclass(kw_only=True, slots=True, frozen=True)
class Modern:
    at: date
    since: date = NOTHING


@dataclass
class Caching:
    id: int
    cache: dict[str, int] = field(init=False, compare=False, default_factory=dict)


@dataclass(eq=False)
class NoEquality:
    at: date

    def __repr__(self) -> str:
        return f"NoEquality({self.at})"


@dataclass
class Box(Generic[T]):
    item: T
    more: list[T] = field(default_factory=list)
    maybe: T | None = None


@dataclass
class DayBox(Box[date]):
    label: str = ""


@dataclass
class Crate(Generic[T]):
    box: Box[dict[str, T]]


@dataclass
class Loose:
    anything: Any
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Basket:
    best: Event
    events: list[Event] = field(default_factory=list)


@dataclass
class Validated:
    secret: str

    def __post_init__(self) -> None:
        if not self.secret.endswith("!"):
            self.secret = self.secret + "!"
        else:
            raise ValueError(self.secret)


# -- attrs, msgspec --


@attrs.define
class Item:
    x: int
    _at: date
    y: int = attrs.field(init=False, default=3)


@attrs.define
class SpecialItem(Item):
    z: int = 1


def one_more(value: Any) -> int:
    return int(value) + 1


@attrs.frozen
class Converting:
    x: int = attrs.field(converter=one_more)


@attrs.define
class ItemOf(Generic[T]):
    x: T


class Struct(msgspec.Struct):
    x: int
    at: date
    next: Struct | None = None


class SubStruct(Struct):
    pass


class StructOf(msgspec.Struct, Generic[T]):
    x: T


class Tagged(msgspec.Struct, kw_only=True, rename="camel", tag="t"):
    some_name: Decimal = Decimal(3)
    other: str


class NoEqualityStruct(msgspec.Struct, eq=False):
    at: date


# -- others --


class Trip(TypedDict):
    at: datetime
    until: NotRequired[date]


class LongTrip(Trip, total=False):
    price: Required[Decimal]
    ids: set[UUID]


class OtherTrip(typing_extensions.TypedDict):
    at: typing_extensions.NotRequired[datetime]
    on: typing_extensions.ReadOnly[date]


class TripOf(TypedDict, Generic[T]):
    x: T


Of_ = TypeVar("Of_", bound="Item")
Either = TypeVar("Either", int, date)


class Visit(NamedTuple):
    who: UUID
    when: date = DAY


class Email(str):
    pass


class Count(int):
    pass


class Ids(list):  # type: ignore[type-arg]  # as people write it
    pass


class Headers(dict):  # type: ignore[type-arg]  # as people write it
    pass


class Joined(str):
    def __new__(cls, a: str, b: str) -> Joined:
        return super().__new__(cls, a + b)


class Color(enum.Enum):
    RED = "red"
    NONE = None
    BORN = DAY
    BORN_TEXT = "2024-01-02"


class Size(enum.StrEnum):
    XL = "xl"


class Level(enum.IntEnum):
    HIGH = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


UserId = NewType("UserId", UUID)
Pair = typing_extensions.TypeAliasType("Pair", tuple[T, T], type_params=(T,))


class Nested:  # as `type Nested = list[Nested] | date` makes it from Python 3.12 on
    __value__: Any


nested = Nested()
nested.__value__ = types.GenericAlias(list, (nested,)) | date


def cached(id: int) -> Caching:
    made = Caching(id)
    made.cache["a"] = 1
    return made


COMES_BACK = [
    (Alias, Alias(userId=1)),
    (list[Alias], [Alias(userId=1)]),
    (TwoAliases, TwoAliases.model_validate({"uid": 1})),
    (ByAlias, ByAlias.model_validate({"uid": 1, "inner": Alias(userId=2)})),
    (PathAlias, PathAlias.model_validate({"ids": [4]})),
    (Computed, Computed(a=1)),
    (WithJson, WithJson(j='{"a": [1]}')),
    (Excluding, Excluding(a=1)),
    (Strict, Strict(at=NOON, ids={ID}, pair=(1, Decimal("1.50")), path=Path("a"))),
    (Revealing, Revealing(password=SecretStr(CANARY))),
    (Dog, Dog(name="a")),
    (Dog | Animal, Animal(name="a")),
    (Animal | Dog, Dog(name="a")),
    (Owner | None, Owner(pet=Animal(name="a"))),
    (Private, Private(a=1)),
    (Days, Days([DAY])),
    (Of[date], Of[date](item=DAY)),
    (dict[str, Of[set[int]]], {"a": Of[set[int]](item={1})}),
    (Open, Open.model_validate({"a": 1, "b": [2]})),
    (Blob, Blob(data=b"abc")),
    (Opening, Opening(at=time(10, tzinfo=UTC))),
    (Net, Net.model_validate({"ip": "1.2.3.4", "url": "http://a.b/"})),
    (Checked, Checked(NOON)),
    (Event, Event(1)),
    (Paid, Paid(1, 5)),
    (Event | Paid, Paid(1, 5)),
    (RatedByDefault, RatedByDefault(2)),
    (Modern, Modern(at=DAY)),
    (Modern, Modern(at=DAY, since=DAY)),
    (Caching, cached(1)),
    (Box, Box(1, [2])),
    (Box[date], Box(DAY, [DAY], DAY)),
    (DayBox, DayBox(DAY, [DAY], None, "x")),
    (Crate[UUID], Crate(Box({"a": ID}))),
    (Loose, Loose([1], {"a": None})),
    (Basket, Basket(Event(1), [Event(2)])),
    (Item, Item(1, DAY)),
    (SpecialItem, SpecialItem(1, DAY)),
    (ItemOf[date], ItemOf(DAY)),
    (Struct, Struct(1, DAY, Struct(2, DAY))),
    (StructOf[list[date]], StructOf([DAY])),
    (Tagged, Tagged(other="x")),
    (Struct | Item, Item(1, DAY)),
    (Trip, {"at": NOON}),
    (Trip, {"at": NOON, "until": DAY}),
    (LongTrip, {"at": NOON, "price": Decimal("1.5"), "ids": {ID}}),
    (OtherTrip, {"at": NOON, "on": DAY}),
    (TripOf[date], {"x": DAY}),
    (Trip | None, {"at": NOON}),
    (OrderedDict, OrderedDict(b=1, a=2)),
    (OrderedDict[str, date], OrderedDict(b=DAY, a=DAY)),
    (defaultdict[str, list[date]], defaultdict(list, {"a": [DAY]})),
    (typing.DefaultDict[str, int], defaultdict(int, {"a": 3})),  # noqa: UP006
    (defaultdict, defaultdict(None, {"a": 3})),
    (Counter[str], Counter("aab")),
    (Counter, Counter("aab")),
    (ChainMap[str, date], ChainMap({"a": DAY})),
    (types.MappingProxyType[str, date], types.MappingProxyType({"a": DAY})),
    (UserDict, UserDict({"a": 1})),
    (Headers, Headers(a=1)),
    (Ids, Ids([1])),
    (Email, Email("a@b.c")),
    (Count, Count(3)),
    (deque[date], deque([DAY])),
    (deque, deque([1])),
    (bytearray, bytearray(b"\0\xff")),
    (pandas.Timestamp, pandas.Timestamp("2024-01-01", tz="UTC")),
    (pandas.Timedelta, pandas.Timedelta("1s")),
    (numpy.float64, numpy.float64(1.5)),
    (time, time(10, tzinfo=timezone(timedelta(hours=-3)))),
    (time, time(10, tzinfo=ZoneInfo("UTC"))),
    (Color | None, None),
    (Color, Color.NONE),
    (Access, Access.READ | Access.WRITE),
    (Visit, Visit(ID)),
    (Pair[date], (DAY, DAY)),
    (nested, [DAY, [DAY, []]]),
    (Annotated[int, Field(gt=3)], 5),
    (Annotated[UserId, "x"] | None, ID),
    (Literal["a", b"x", Size.XL], b"x"),
    (Hashable, 1),
    (numbers.Number, 3),
    (Opaque, {"an": ["unknown", "class"]}),
]


def shown(value: object) -> str:
    return getattr(value, "__name__", None) or type(value).__name__


@pytest.mark.parametrize(("hint", "value"), COMES_BACK, ids=shown)
def test_it_comes_back_as_declared(hint: Any, value: object) -> None:
    back = there_and_back(hint, value)
    assert back == value
    assert type(back) is type(value)
    codec = codec_of(hint)
    assert codec.decode_result(codec.encode_result(value, max_bytes=LIMIT)) == value


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (float, 3, 3.0),
        (list[float], [1, 2.5, True], [1.0, 2.5, True]),
        (float | str, 3, 3.0),
        (str, Size.XL, "xl"),
        (str, Email("a"), "a"),
        (int, Level.HIGH, 1),
        (float, numpy.float64(1.5), 1.5),
        (datetime, pandas.Timestamp("2024-01-01T01:02:03.000004"), datetime(2024, 1, 1, 1, 2, 3, 4)),
        (timedelta, pandas.Timedelta("1s"), timedelta(seconds=1)),
        (dict, OrderedDict(a=1), {"a": 1}),
        (dict[str, list[int]], defaultdict(list, a=[1]), {"a": [1]}),
        (Mapping[str, date], types.MappingProxyType({"a": DAY}), {"a": DAY}),
        (MutableMapping[str, int], ChainMap({"a": 1}, {"b": 2}), {"b": 2, "a": 1}),
        (collections.abc.Set[int], frozenset({1}), {1}),
        (list[int], Ids([1]), [1]),
        (tuple[UUID, date], Visit(ID), (ID, DAY)),
    ],
    ids=shown,
)
def test_what_is_of_a_subclass_or_an_abstract_type_comes_back_as_the_equal_declared_one(
    hint: Any, value: object, expected: object
) -> None:
    back = there_and_back(hint, value)
    assert back == expected
    assert back == value
    assert type(back) is type(expected)


def test_what_has_no_equality_comes_back_in_its_parts() -> None:
    assert there_and_back(NoEquality, NoEquality(DAY)).at == DAY
    struct = codec_of(NoEqualityStruct)
    ((back,), _) = struct.decode(*struct.encode((NoEqualityStruct(DAY),), {}, max_bytes=LIMIT))
    assert type(back) is NoEqualityStruct and back.at == DAY
    opaque = codec_of(WithOpaque)
    ((model,), _) = opaque.decode(*opaque.encode((WithOpaque(thing=Opaque(3)),), {}, max_bytes=LIMIT))
    assert isinstance(model, WithOpaque) and model.thing.number == 3
    assert "come back as another one" in refusal(Forgetful, Forgetful(thing=Opaque(3)))


def test_a_model_may_be_written_by_hand_by_its_aliases() -> None:
    assert codec_of(Alias).decode('[{"userId": 3}]', "{}") == ([Alias(userId=3)], {})
    assert there_and_back(Alias, {"userId": 3}, check_types=False) == Alias(userId=3)


def changed(model: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(model, name, value)
    return model


CHAINED = ChainMap({"a": 1}, {"b": 2})
LOST = [
    (Crossed, Crossed(a=1, b=2), "value.a is an int, which would come back as another one"),
    (Excluding, Excluding(a=1, b=CANARY), "value.b is a str, which would come back as another one"),
    (ExcludingRequired, ExcludingRequired(a=CANARY), "cannot be read as ExcludingRequired; pass an id"),
    (Login, Login(password=SecretStr(CANARY)), "value.password is a SecretStr, which is written as stars; pass an id"),
    (Any, Login(password=SecretStr(CANARY)), "value.password is a SecretStr, which is written as stars"),
    (Any, {"a": [Login(password=SecretStr(CANARY))]}, "value.a[0].password is a SecretStr, which is written as stars"),
    (Any, Logins(of={"a": [Login(password=SecretStr(CANARY))]}), "value.of.a[0].password is a SecretStr"),
    (SecretStr, SecretStr(CANARY), "is a SecretStr, which JSON cannot hold"),
    (Hashing, Hashing(password=CANARY), "value.password is a str, which would come back as another one"),
    (Animal, Dog(name=CANARY), "is a Dog, which would come back as an Animal; declare its own class"),
    (Dog, Puppy(name=CANARY), "is a Puppy, which would come back as a Dog"),
    (list[Animal], [Animal(name=CANARY), Dog(name=CANARY)], "value[1] is a Dog, which would come back as an Animal"),
    (Owner, Owner(pet=Dog(name=CANARY)), "value.pet is a Dog, which would come back as an Animal"),
    (BaseModel, Animal(name=CANARY), "cannot be read as BaseModel; pass an id"),
    (Animal, Animal.model_construct(name=5), "cannot be read as Animal"),
    (Private, changed(Private(a=1), _seen=5), "value._seen is an int, which would come back as another one"),
    (Of, Of[int](item=1), "is an Of[int], which would come back as an Of"),
    (Open, Open.model_validate({"a": 1, "b": DAY}), "value.b is a date, which would come back as a str"),
    (Blob, Blob(data=b"\xff"), "is a Blob, and writing it raised UnicodeDecodeError"),
    (Opening, Opening(at=time(10, tzinfo=BERLIN)), "value.at is a time, which would come back as another one"),
    (Event, Paid(1, 5), "is a Paid, which would come back as an Event; declare its own class"),
    (Event, Renamed(1), "is a Renamed, which would come back as an Event"),
    (Event | Renamed, Renamed(1), "is a Renamed, which would come back as an Event"),
    (list[Event], [Event(1), Paid(1)], "value[1] is a Paid, which would come back as an Event"),
    (Basket, Basket(Paid(1)), "value.best is a Paid, which would come back as an Event"),
    (Basket, Basket(Event(1), [Renamed(1)]), "value.events[0] is a Renamed, which would come back as an Event"),
    (Rated, Rated(1, 2), "cannot be read as Rated: missing a required argument: 'rate'; pass an id"),
    (RatedByDefault, RatedByDefault(2, rate=5), "value.total is an int, which would come back as another one"),
    (Box, Box(DAY), "value.item is a date, which would come back as a str"),
    (Loose, Loose(DAY), "value.anything is a date, which would come back as a str"),
    (Loose, Loose(1, {"a": (1,)}), "value.notes.a is a tuple, which would come back as a list"),
    (Validated, Validated(CANARY), "cannot be read as Validated; pass an id"),
    (Item, SpecialItem(1, DAY), "is a SpecialItem, which would come back as an Item"),
    (Item, changed(Item(1, DAY), y=7), "value.y is an int, which would come back as another one"),
    (Converting, Converting("3"), "value.x is an int, which would come back as another one"),
    (Struct, SubStruct(1, DAY), "is a SubStruct, which would come back as a Struct"),
    (Trip, {"at": NOON, "more": DAY}, "value.more is a date, which would come back as a str"),
    (defaultdict[str, int], defaultdict(lambda: 1, {"a": 1}), "is a defaultdict, which would come back as another one"),
    (defaultdict, defaultdict(list, {"a": [1]}), "is a defaultdict, which would come back as another one"),
    (ChainMap[str, int], CHAINED, "is a ChainMap, which would come back as another one"),
    (deque, deque([1], maxlen=3), "is a deque, which would come back as another one"),
    (set, {(1, 2)}, "cannot be read as set"),
    (set[Any], {DAY}, "is a set, which would come back as another one"),
    (Joined, Joined("a", "b"), "cannot be read as Joined"),
    (Color, Color.BORN, "is a Color, which would come back as another one"),
    (Color | None, Color.NONE, "is a Color, which would come back as a NoneType"),
    (Literal[Color.BORN, Color.BORN_TEXT], Color.BORN, "is a Color, which would come back as another one"),
    (datetime, pandas.NaT, "is a NaTType, which is not a time; pass None"),
    (datetime | None, pandas.NaT, "is a NaTType, which is not a time"),
    (date, pandas.NaT, "is a NaTType, which is not a time"),
    (Any, [pandas.NaT], "value[0] is a NaTType, which is not a time"),
    (pandas.Timestamp, pandas.NaT, "is a NaTType, which is not a time"),
    (Any, pandas.NA, "is a NAType, which JSON cannot hold"),
    (datetime, pandas.Timestamp("2024-01-01T00:00:00.123456789"), "is a Timestamp, which would come back as another"),
    (pandas.Timestamp, pandas.Timestamp("2024-01-01T00:00:00.123456789"), "is a Timestamp, which would come back as"),
    (timedelta, pandas.Timedelta("1ns"), "is a Timedelta of nanoseconds, which would be lost"),
    (Any, pandas.Timedelta("1ns"), "is a Timedelta of nanoseconds, which would be lost"),
    (time, time(10, tzinfo=BERLIN), "has a time zone whose offset depends on the day, which would be lost; pass"),
    (Any, time(10, tzinfo=BERLIN), "has a time zone whose offset depends on the day"),
    (UUID | str, str(ID), "is a str, which would come back as an UUID"),
    (str | UUID, ID, "is an UUID, which would come back as a str"),
    (str | datetime, NOON, "is a datetime, which would come back as a str"),
    (float, 10**400, "is an int that no float equals; pass a float, or declare int"),
    (list[float], [2**53 + 1], "value[0] is an int that no float equals"),
    (Decimal | float, 3, "is an int, which would come back as a Decimal"),
    (PurePath, Path("a"), "is a PosixPath, which would come back as a PurePosixPath"),
]


@pytest.mark.parametrize("check_types", [True, False])
@pytest.mark.parametrize(("hint", "value", "problem"), LOST, ids=shown)
def test_what_would_not_come_back_is_refused_whatever_the_setting(
    hint: Any, value: object, problem: str, check_types: bool
) -> None:
    assert problem in refusal(hint, value, check_types=check_types)


ODD_EVENTS = [Event(untyped(None)), Event(untyped("x")), Event(untyped(1.5))]
WRONG: list[tuple[Any, list[object]]] = [
    (int, [None, "x", "5", 1.0, 1.5, [1], DAY, Decimal(1)]),
    (str, [None, 5, True, b"x", ["a"], DAY, ID]),
    (float, [None, "1.5", Decimal("1.5"), [1.5]]),
    (bool, [None, 0, 1, "true"]),
    (bytes, [None, "x", bytearray(b"x"), [1]]),
    (type(None), [0, "", False]),
    (datetime, [None, "2024-01-01", DAY, 5, time(1)]),
    (date, [None, "2024-01-01", 5]),
    (time, [None, "10:00", DAY, 5]),
    (timedelta, [None, 5, "PT5S"]),
    (UUID, [None, str(ID), 5]),
    (Decimal, [None, 5, 1.5, "1.5"]),
    (Path, [None, "a", PurePosixPath("a")]),
    (Size, [None, "xl", Level.HIGH]),
    (Color, [None, "red", Size.XL]),
    (Access, [None, 3]),
    (Literal["a", 1], [None, "b", True, 1.0, Size.XL, ["a"]]),
    (int | None, ["x", 1.5, [None]]),
    (int | str, [None, 1.5, ["x"]]),
    (datetime | int, ["2024-01-01", None, 1.5]),
    (list, [None, "abc", (1,), {1}, {"a": 1}, deque([1])]),
    (list[int], [None, "abc", (1,), [None], ["1"], [1.5], {1}]),
    (list[str], ["abc", [1], [None], ("a",)]),
    (Sequence[int], ["abc", (1,), deque([1]), ["a"]]),
    (Iterable[str], ["abc", ("a",), {"a"}, {"a": 1}]),
    (Collection[int], [{1}, (1,)]),
    (MutableSequence[int], [deque([1]), [None]]),
    (set[int], [[1], frozenset({1}), {"a"}, {None}]),
    (frozenset[int], [{1}, [1]]),
    (deque[int], [[1], deque(["a"])]),
    (tuple[int, str], [[1, "a"], (1,), (1, 2), (1, "a", 2), None]),
    (tuple[int, ...], [[1], (1, "a"), (None,)]),
    (tuple, [[1], None, "a"]),
    (dict, [None, [1], [("a", 1)], "a"]),
    (dict[str, int], [None, {"a": None}, {"a": "x"}, {"a": 1.5}]),
    (dict[Size, int], [{"xl": 1}]),
    (dict[int, int], [{"1": 1}]),
    (Mapping[str, date], [{"a": "2024-01-01"}, types.MappingProxyType({"a": 5}), [("a", DAY)]]),
    (OrderedDict[str, int], [{"a": 1}, OrderedDict(a=None)]),
    (Counter[str], [{"a": 1}, ["a"]]),
    (types.MappingProxyType[str, int], [{"a": 1}]),
    (Trip, [None, {"at": "2024-01-01"}, {"at": NOON, "until": 5}, [NOON], {}, {"until": DAY}]),
    (LongTrip, [{"at": NOON}, {"price": Decimal(1)}]),
    (OtherTrip, [{}, {"at": NOON}]),
    (Of_, [None, Alias(userId=1)]),
    (Either, [None, "x", 1.5]),
    (Visit, [(ID, DAY), [ID], Visit(untyped("x")), Visit(ID, untyped(None))]),
    (Event, [None, 1, {"id": 1}, *ODD_EVENTS]),
    (
        Basket,
        [
            Basket(untyped(None)),
            Basket(ODD_EVENTS[1]),
            Basket(Event(1), ODD_EVENTS[:1]),
            Basket(Event(1), untyped((Event(1),))),
        ],
    ),
    (Box[int], [Box("x"), Box(1, untyped(["x"])), Box(DAY)]),
    (Item, [None, {"x": 1, "at": "2024-01-02"}, Item(untyped("x"), DAY), Item(1, untyped("2024-01-02"))]),
    (Struct, [None, {"x": 1}, Struct(untyped("x"), DAY), Struct(1, DAY, Struct(untyped(None), DAY))]),
    (Alias, [None, 1, {"userId": 1}, Animal(name="x")]),
    (Email, [None, "a", Size.XL]),
    (Annotated[int, "x"], [None, "x"]),
    (UserId, [None, str(ID)]),
    (Pair[date], [(DAY,), (DAY, "x"), [DAY, DAY]]),
    (nested, ["x", [["x"]], None]),
    (os.PathLike, [Path("a")]),
    (numbers.Number, [Decimal(1)]),
    (Hashable, [ID, (1, 2)]),
    (Opaque, [{"at": DAY}, (1,)]),
]


@pytest.mark.parametrize(("hint", "wrong"), WRONG, ids=shown)
def test_another_type_than_declared_is_refused(hint: Any, wrong: list[object]) -> None:
    for value in wrong:
        assert " is declared" in refusal(hint, value), value


def test_the_line_names_the_task_the_argument_the_types_and_the_cure() -> None:
    def charge(order: int, /, *more: date, to: list[str] | None = None, **rest: UUID) -> None: ...

    codec = Codec(charge, name="shop.charge")

    def told(*args: Any, **kwargs: Any) -> str:
        with pytest.raises(InvalidArguments) as refused:
            codec.encode(args, kwargs, max_bytes=LIMIT)
        return str(refused.value)

    cure = "; pass that, or declare what it is"
    assert told(None) == f"shop.charge: argument order is None, but int is declared{cure}"
    assert told(1, DAY, CANARY) == f"shop.charge: argument more[1] is a str, but date is declared{cure}"
    assert told(1, to=["a", 5]) == f"shop.charge: argument to[1] is an int, but str is declared{cure}"
    assert told(1, to=("a",)) == f"shop.charge: argument to is a tuple, but list[str] is declared{cure}"
    assert told(1, key=CANARY) == f"shop.charge: argument key is a str, but UUID is declared{cure}"
    assert codec.encode((1, DAY), {"to": None, "key": ID}, max_bytes=LIMIT)[0] == '[1,"2024-01-02"]'


class Options(TypedDict, total=False):
    at: datetime
    count: int


def test_named_options_of_a_typed_dict() -> None:
    def crawl(at: str, /, **options: Unpack[Options]) -> None: ...

    codec = Codec(crawl, name="shop.crawl")
    args, kwargs = ("x",), {"at": NOON, "count": 3}
    assert codec.decode(*codec.encode(args, kwargs, max_bytes=LIMIT)) == (["x"], kwargs)
    with pytest.raises(InvalidArguments, match=r"argument at is a str, but datetime is declared"):
        codec.encode(args, {"at": "2024-01-01"}, max_bytes=LIMIT)


def test_stars_that_hide_nothing_are_a_text_like_any_other() -> None:
    assert there_and_back(Animal, Animal(name="**********")).name == "**********"


def test_a_default_of_none_lets_none_pass() -> None:
    def report(since: date = NOTHING) -> None: ...

    codec = Codec(report, name="shop.report")
    assert codec.decode(*codec.encode((None,), {}, max_bytes=LIMIT)) == ([None], {})
    with pytest.raises(InvalidArguments, match=r"argument since is a str, but date is declared"):
        codec.encode(("x",), {}, max_bytes=LIMIT)


GHOSTS = types.GenericAlias(list, ("Ghost",))  # which is nowhere


@pytest.mark.parametrize("hint", [Any, object, T, "Ghost", GHOSTS, Callable[[int], int]])
def test_where_nothing_is_declared_everything_is_taken_that_json_holds(hint: Any) -> None:
    for value in (None, True, 1, 1.5, "x", [1, {"a": None}], {"a": [1]}):
        if hint != GHOSTS or isinstance(value, list):
            assert there_and_back(hint, value) == value


def test_with_the_setting_off_a_worker_must_still_be_able_to_read_it() -> None:
    assert there_and_back(int, "x", check_types=False) == "x"
    assert there_and_back(date, "2024-01-02", check_types=False) == DAY
    assert there_and_back(Event, {"id": "x"}, check_types=False) == Event(untyped("x"))
    assert "stored as a NoneType, which cannot be read as date" in refusal(date, None, check_types=False)
    assert "cannot be read as Event" in refusal(Event, {"no": CANARY}, check_types=False)
    assert "cannot be read as Color" in refusal(Color, CANARY, check_types=False)


def test_equal_calls_are_equal_texts_however_often_they_were_seen() -> None:
    codec = codec_of(int | str)
    assert len({codec.encode((5,), {}, max_bytes=LIMIT) for _ in range(3)}) == 1
    for value in ("x\0", "\ud800"):  # the type is known to fit, the value is looked at all the same
        codec.encode(("fine",), {}, max_bytes=LIMIT)
        with pytest.raises(InvalidArguments):
            codec.encode((value,), {}, max_bytes=LIMIT)
    number = codec_of(float)
    assert [number.encode((n,), {}, max_bytes=LIMIT)[0] for n in (3, 3, 10**18)] == ["[3]", "[3]", f"[{10**18}]"]
    with pytest.raises(InvalidArguments, match="is an int that no float equals"):
        number.encode((2**53 + 1,), {}, max_bytes=LIMIT)
    with pytest.raises(InvalidArguments, match="more than the limit of 10"):
        codec.encode(("x" * 10,), {}, max_bytes=10)
    with pytest.raises(TypeError):
        codec.encode((5, 5), {}, max_bytes=LIMIT)
    with pytest.raises(TypeError):
        codec.encode((), {"other": 5}, max_bytes=LIMIT)


# -- results --


@pytest.mark.parametrize(
    ("hint", "value", "back"),
    [
        (int, "x", "x"),
        (int, None, None),
        (list[int], (1,), [1]),
        (date, "2024-01-02", DAY),
        (Event, {"id": 1}, Event(1)),
        (Event, Event(untyped("x")), Event(untyped("x"))),
        (Decimal, 1.5, Decimal("1.5")),
        (Sequence[int], (1, 2), [1, 2]),
        (Opaque, DAY, "2024-01-02"),
    ],
    ids=shown,
)
def test_a_result_of_another_type_than_declared_is_kept(hint: Any, value: object, back: object) -> None:
    codec = codec_of(hint)
    assert codec.decode_result(codec.encode_result(value, max_bytes=LIMIT)) == back


@pytest.mark.parametrize(("hint", "value", "problem"), LOST, ids=shown)
def test_a_result_never_becomes_another_one_without_a_word(hint: Any, value: object, problem: str) -> None:
    with pytest.raises(InvalidResult) as refused:
        codec_of(hint).encode_result(value, max_bytes=LIMIT)
    message = str(refused.value)
    assert message.startswith("shop.take: result") and problem.removeprefix("value") in message
    assert CANARY not in message


# -- any value of sixty types --

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False)
zones = st.none() | st.timezones() | st.just(UTC) | st.just(NOON.tzinfo)
moments = st.datetimes(timezones=zones)
times = st.times(timezones=zones)
days = st.dates()
decimals = st.decimals(allow_nan=False)
finite = st.decimals(allow_nan=False, allow_infinity=False)
paths = st.sampled_from(["a", "/tmp/é", "."]).map(Path)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
events = st.builds(Event, st.integers())
dogs = st.builds(Dog, name=texts, barks=st.booleans())
animals = st.builds(Animal, name=texts)
structs = st.builds(Struct, st.integers(), days, st.none() | st.builds(Struct, st.integers(), days))

TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers() | st.booleans() | st.just(Level.HIGH)),
    (str, texts | st.just(Size.XL)),
    (float, floats | st.integers() | st.integers(-(2**60), 2**60) | st.floats()),
    (bool, st.booleans()),
    (bytes, st.binary()),
    (bytearray, st.binary().map(bytearray)),
    (datetime, moments | st.just(pandas.NaT) | days.map(pandas.Timestamp)),
    (date, days | moments),
    (time, times),
    (timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Decimal, decimals),
    (Path, paths),
    (Color, st.sampled_from(Color)),
    (Size, st.sampled_from(Size)),
    (Access, st.sampled_from([Access.READ, Access.WRITE, Access.READ | Access.WRITE, Access(0)])),
    (Literal["a", 1, None, b"x"], st.sampled_from(["a", 1, None, b"x"])),
    (Optional[int], st.none() | st.integers()),  # noqa: UP045
    (Union[int, str, None], st.none() | st.integers() | texts),  # noqa: UP007
    (int | datetime, st.integers() | moments),
    (str | datetime, texts | moments),
    (UUID | str, st.uuids() | texts | st.uuids().map(str)),
    (float | int, floats | st.integers()),
    (Decimal | float, floats | decimals),
    (Color | int | None, st.sampled_from(Color) | st.integers() | st.none()),
    (list, st.lists(json_values, max_size=3)),
    (list[int], st.lists(st.integers())),
    (list[float], st.lists(floats | st.integers())),
    (list[datetime], st.lists(moments, max_size=3)),
    (list[Any], st.lists(json_values, max_size=3)),
    (Sequence[date], st.lists(days) | st.lists(days).map(tuple)),
    (Iterable[str], st.lists(texts) | texts | st.sets(texts)),
    (Collection[int], st.lists(st.integers()) | st.sets(st.integers())),
    (set[int], st.sets(st.integers())),
    (set[UUID | None], st.sets(st.none() | st.uuids())),
    (set, st.sets(st.integers() | texts | days | st.tuples(texts))),
    (frozenset[tuple[int, str]], st.frozensets(st.tuples(st.integers(), texts))),
    (collections.abc.Set[str], st.sets(texts) | st.frozensets(texts)),
    (deque[date], st.lists(days).map(deque) | st.lists(days).map(lambda items: deque(items, maxlen=3))),
    (tuple[int, date, UUID], st.tuples(st.integers(), days, st.uuids())),
    (tuple[Decimal, ...], st.lists(decimals).map(tuple)),
    (dict[str, int], st.dictionaries(texts, st.integers())),
    (dict[str, dict[str, date]], st.dictionaries(texts, st.dictionaries(texts, days, max_size=2), max_size=2)),
    (dict[Size, list[time]], st.dictionaries(st.sampled_from(Size), st.lists(times, max_size=2))),
    (Mapping[str, Any], st.dictionaries(texts, json_values, max_size=3)),
    (OrderedDict[str, date], st.dictionaries(texts, days).map(OrderedDict)),
    (defaultdict[str, int], st.dictionaries(texts, st.integers()).map(lambda items: defaultdict(int, items))),
    (Counter[str], st.dictionaries(texts, st.integers()).map(Counter)),
    (ChainMap[str, int], st.lists(st.dictionaries(texts, st.integers()), max_size=2).map(lambda maps: ChainMap(*maps))),
    (types.MappingProxyType[str, date], st.dictionaries(texts, days).map(types.MappingProxyType)),
    (Trip, st.fixed_dictionaries({"at": moments}, optional={"until": days})),
    (Visit, st.builds(Visit, st.uuids(), days)),
    (Event, events | st.builds(Paid, st.integers(), st.integers())),
    (list[Event | Paid], st.lists(events | st.builds(Paid, st.integers(), st.integers()), max_size=3)),
    (Box[date], st.builds(Box, days, st.lists(days, max_size=2), st.none() | days)),
    (Crate[Decimal], decimals.map(lambda number: Crate(Box({"a": number})))),
    (Modern, st.builds(Modern, at=days, since=days)),
    (Alias, st.builds(Alias, userId=st.integers())),
    (Animal, animals | dogs),
    (Dog | Animal, animals | dogs),
    (
        Strict,
        st.builds(Strict, at=moments, ids=st.sets(st.uuids()), pair=st.tuples(st.integers(), finite), path=paths),
    ),
    (Login, st.builds(Login, password=texts.map(SecretStr))),
    (WithJson, json_values.map(lambda value: WithJson.model_construct(j=value))),
    (Opening, st.builds(Opening, at=times)),
    (Item, st.builds(Item, st.integers(), days)),
    (Struct, structs),
    (StructOf[set[date]], st.sets(days).map(StructOf)),
    (Pair[date], st.tuples(days, days)),
    (Annotated[list[UserId], "x"], st.lists(st.uuids())),
    (Opaque, json_values | days | st.tuples(texts)),
]


def same(back: Any, value: Any) -> bool:
    """Equal, and of one class, except for the four differences that proof.py's first lines name."""
    if isinstance(back, (datetime, time)) and type(back) is type(value):  # == of two zones knows no repeated hour
        return bool(back.isoformat() == value.isoformat() and (back.tzinfo is None) == (value.tzinfo is None))
    allowed = isinstance(value, type(back)) or (isinstance(value, int) and type(back) is float)
    if isinstance(value, list) and type(value) is type(back):
        return len(value) == len(back) and all(map(same, back, value))
    if isinstance(value, dict) and type(value) is type(back):
        return list(value) == list(back) and all(map(same, back.values(), value.values()))
    if isinstance(value, BaseModel):
        return type(back) is type(value) and same(dict(back), dict(value))
    return bool(back == value) and (allowed or isinstance(value, frozenset))


@pytest.mark.parametrize(("hint", "any_value"), TYPES, ids=shown)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_value_comes_back_as_it_is_or_is_refused(hint: Any, any_value: Any, data: st.DataObject) -> None:
    value = data.draw(any_value)
    codec = codec_of(hint)
    try:
        stored = codec.encode((value,), {}, max_bytes=LIMIT)
    except InvalidArguments as error:
        assert str(error).startswith("shop.take: argument value")
        return
    ((back,), _) = codec.decode(*stored)
    assert same(back, value)
    assert codec.encode((value,), {}, max_bytes=LIMIT) == stored


def test_there_are_sixty_types() -> None:
    assert len(TYPES) >= 60
