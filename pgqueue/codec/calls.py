"""JSON in and out: the arguments and the result of a task as text, read back as its annotations declare.

The columns are text, not jsonb, which would make an int of 1e22. Of equal keys in an object the last counts.
"""

import functools
import inspect
import json
import math
import sys
import typing
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, NoReturn

from pgqueue.codec.decode import anatomy, as_is, hints_of, optional, reader_for
from pgqueue.codec.encode import SCALARS, Reader, Unfit, dump, each, plain, short
from pgqueue.codec.proof import Check, Lost, check_for, prove, prove_readable
from pgqueue.codec.proof import optional as optional_check
from pgqueue.codec.redact import Marks, marks_of
from pgqueue.codec.signature import signatures_of
from pgqueue.errors import InvalidArguments, InvalidResult, PgQueueError, SignatureChanged


def encode_plain(value: object, *, path: str, max_bytes: int, error: type[PgQueueError] = InvalidArguments) -> str:
    """JSON text of a value without a signature. `path` begins the messages: `shop.send_email: headers`."""
    try:
        text = _text(value, flat=type(value) in SCALARS or _is_flat_one(value))
    except Unfit as unfit:
        raise error(f"{path}{unfit.path()} {unfit.problem}") from unfit.__cause__
    _check_size(_size(text), max_bytes, path, error)
    return text


def decode_plain(text: str | None) -> object:
    """The value of JSON text without a signature; None for no text. Raises ValueError."""
    return None if text is None else _load(text)


def _is_flat(items: Iterable[object]) -> bool:
    """Whether they are scalars, or lists and dicts of scalars."""
    return all(_is_flat_one(item) for item in items if type(item) not in SCALARS)


def _is_flat_one(item: Any) -> bool:
    if type(item) is dict:
        return _STR.issuperset(map(type, item)) and SCALARS.issuperset(map(type, item.values()))
    return type(item) is list and SCALARS.issuperset(map(type, item))


def _text(value: Any, *, flat: bool) -> str:
    """JSON text of `value`. What is flat takes no walk: the text itself shows whether a scalar needs a closer look."""
    if flat:
        try:
            text = dump(value)
            if "\\u0000" not in text and (text.isascii() or text.encode()):
                return text
        except ValueError:
            pass  # NaN, too many digits, a lone surrogate: the walk says where
    return dump(plain(value))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _check_size(size_bytes: int, max_bytes: int, subject: str, error: type[PgQueueError]) -> None:
    if size_bytes > max_bytes:
        cure = "keep the data in a table or a file and pass its id, or raise the limit"
        raise error(f"{subject}: {size_bytes:,} bytes of JSON are more than the limit of {max_bytes:,}; {cure}")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_STR = frozenset({str})
_raw_decode = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant).raw_decode


def _load(text: str) -> Any:
    """Parse all of `text`. What Python raises about a hostile one becomes a ValueError of one line."""
    text = text.strip(" \t\r\n")
    try:
        value, end = _raw_decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text):
        raise ValueError(f"extra data at character {end}")
    return value


_EXACT_DIGITS = 15  # of an int that every float equals; its text has no more characters
_MAX_PROVEN = 1000  # kinds of calls of one task, which *args makes endless


class Codec:
    """Arguments and results of one task. The signature is read at first use: forward references resolve by then."""

    def __init__(
        self, function: Callable[..., object], *, name: str, signature: inspect.Signature | None = None
    ) -> None:
        self._function = function
        self._name = name
        self._signature = signature
        self._proven: dict[tuple[Any, ...], int] = {}
        """Calls of scalars that need no look, by the types of the arguments and the names of the named ones, and up to which
        length of text."""

    @functools.cached_property
    def _shape(self) -> "_Shape":
        return _Shape(self._function, self._name, self._signature or _signatures(self._function)[0])

    @functools.cached_property
    def _opaque(self) -> "Codec | None":
        """For calls that only a wrapper can take whose ways with arguments nobody knows: they are read by their names."""
        own = None if self._signature else _signatures(self._function)[1]
        return None if own is None else Codec(self._function, name=self._name, signature=own)

    @functools.cached_property
    def _call(self) -> Callable[..., None]:
        return self._shape.call

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        """By parameter, and "return"; those of `**options: Unpack[Options]` each as "**name"."""
        hints = hints_of(inspect.unwrap(self._function))
        extra = hints.get(self._shape.extra)
        if typing.get_origin(extra) is typing.Unpack:
            ((kind, arguments),) = map(anatomy, typing.get_args(extra))
            hints |= {f"**{name}": hint for name, hint in hints_of(kind, arguments).items()}
        return hints

    def _parameter(self, key: int | str) -> str:
        """The parameter whose annotation an argument is read by."""
        name = self._shape.parameter(key)
        return f"**{key}" if name == self._shape.extra and f"**{key}" in self._hints else name

    @functools.cached_property
    def _checks(self) -> dict[str, Check]:
        """By parameter, and "return"; without those that anything fits."""
        checks = {name: check_for(hint) for name, hint in self._hints.items()}
        for name in checks.keys() & self._shape.optional:
            checks[name] = optional_check(checks[name])
        return {name: check for name, check in checks.items() if check is not None}

    @functools.cached_property
    def _readers(self) -> dict[str, Reader]:
        """By parameter, and "return". Empty, and then decoding is parsing, if all are JSON's own types."""
        readers = {name: reader_for(hint) for name, hint in self._hints.items()}
        for name in readers.keys() & self._shape.optional:
            readers[name] = optional(readers[name])
        return {name: reader for name, reader in readers.items() if reader is not as_is}

    @property
    def takes_text(self) -> str:
        """The signature by which calls are checked, as text."""
        return " or ".join(str(signature) for signature in _signatures(self._function) if signature is not None)

    def marks(self, is_secret: Callable[[str], bool]) -> Marks:
        """Which arguments are secret: see redact.py."""
        shape = self._shape
        marks = marks_of(shape.positional, sorted(shape.keywords), shape.rest, is_secret=is_secret)
        return [*marks, "*0"] if marks and self._opaque else marks  # its position is unknown

    def takes(self, name: str) -> bool:
        """Whether an argument may have this name."""
        shape = self._shape
        return bool(shape.extra) or name in shape.keywords or name in shape.positional or name == shape.rest

    def encode(
        self, args: tuple[object, ...], kwargs: Mapping[str, object], *, max_bytes: int, check_types: bool = True
    ) -> tuple[str, str]:
        """A call as a JSON array and object, of `max_bytes` of UTF-8 together.

        Raises TypeError as the function would for such a call, and InvalidArguments for what cannot be stored, is not of the
        declared type (unless check_types is off and a worker can read it) or would not come back as it is.
        """
        kinds: tuple[Any, ...] = (*map(type, args),)
        if kwargs:
            kinds = (*kinds, *kwargs, *map(type, kwargs.values()))
        proven = self._proven.get(kinds, 0)
        if not proven:
            try:
                self._call(*args, **kwargs)
            except TypeError as error:
                if self._opaque is not None:
                    call = self._opaque.encode(args, kwargs, max_bytes=max_bytes, check_types=check_types)
                    return self._opaque.by_name(call, args)
                raise TypeError(f"{self._name}: {error}") from None
        try:
            array = _text(args, flat=bool(proven) or _is_flat(args)) if args else "[]"
            keywords = _text(dict(kwargs), flat=bool(proven) or _is_flat(kwargs.values())) if kwargs else "{}"
            if len(array) + len(keywords) > proven:
                self._prove(kinds, args, kwargs, array, keywords, check_types)
        except Unfit as unfit:
            raise self._invalid(unfit) from unfit.__cause__
        if 4 * (len(array) + len(keywords)) > max_bytes:  # a character takes at most 4 bytes
            _check_size(_size(array) + _size(keywords), max_bytes, self._name, InvalidArguments)
        return array, keywords

    def by_name(self, call: tuple[str, str], args: tuple[object, ...]) -> tuple[str, str]:
        """The call, if nothing in it depends on which parameter an argument by position is for. Raises InvalidArguments."""
        for place, (value, stored) in enumerate(zip(args, _load(call[0]), strict=True), 1):
            if value != stored:
                raise InvalidArguments(
                    f"{self._name}: argument {place} is a {type(value).__name__}, and the decorators around the task do not "
                    "show which parameter takes it: pass it by name"
                )
        return call

    def _prove(
        self,
        kinds: tuple[Any, ...],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        array: str,
        keywords: str,
        check_types: bool,
    ) -> None:
        """Raise Unfit for what would not come back; remember a call of which the types alone say that it does."""
        values = dict[Any, Any](enumerate(args)) | dict(kwargs)
        doubtful = {
            key: (check, value)
            for key, value in values.items()
            if (check := self._checks.get(self._parameter(key))) and type(value) not in check.kinds
        }
        stored: dict[Any, Any] = {}
        for key, (check, value) in doubtful.items():
            try:
                if doubt := self._doubt(check, value, check_types):
                    stored = stored or dict(enumerate(_load(array))) | _load(keywords)
                    doubt(value, stored[key], self._reader(key))
            except Unfit as unfit:
                unfit.steps.append(key)
                raise
        if SCALARS.issuperset(map(type, values.values())) and len(self._proven) < _MAX_PROVEN:
            if not doubtful:
                self._proven[kinds] = sys.maxsize
            elif all(type(value) is int and float in check.kinds for check, value in doubtful.values()):
                self._proven[kinds] = _EXACT_DIGITS

    @staticmethod
    def _doubt(check: Check, value: object, check_types: bool) -> Callable[[Any, Any, Reader], object] | None:
        """What has still to be done to a value: to prove that it comes back, or, of another type, that it can be read."""
        try:
            return None if check.test(value) else prove
        except Lost:
            raise
        except Unfit:
            if check_types:
                raise
            return prove_readable

    def decode(self, args: str, kwargs: str) -> tuple[list[object], dict[str, object]]:
        """The call again, by the annotations. Raises InvalidArguments if it is not JSON or no longer fits the task."""
        try:
            array, keywords = _load(args), _load(kwargs) if kwargs != "{}" else {}
        except ValueError as error:
            raise InvalidArguments(f"{self._name}: the stored arguments are not JSON: {short(str(error))}") from None
        if type(array) is not list or type(keywords) is not dict:
            raise InvalidArguments(f"{self._name}: the stored arguments are not a JSON array and a JSON object")
        try:
            self._call(*array, **keywords)
        except TypeError:
            if self._opaque is not None:
                return self._opaque.decode(args, kwargs)
            raise SignatureChanged(self._changed(array, keywords)) from None
        return self._restored(array, keywords) if self._readers else (array, keywords)

    def _restored(self, array: list[Any], keywords: dict[str, Any]) -> tuple[list[object], dict[str, object]]:
        try:
            args = list(each(count(), map(self._reader, range(len(array))), array))
            items = each(keywords, map(self._reader, keywords), keywords.values())
            return args, dict(zip(keywords, items, strict=True))
        except Unfit as unfit:
            raise self._invalid(unfit) from unfit.__cause__

    def _reader(self, key: int | str) -> Reader:
        return self._readers.get(self._parameter(key), as_is)

    def _invalid(self, unfit: Unfit) -> InvalidArguments:
        where = f"argument {short(self._shape.argument(unfit.steps.pop()))}" if unfit.steps else "the call"
        return InvalidArguments(f"{self._name}: {where}{unfit.path()} {unfit.problem}")

    def _changed(self, array: list[object], keywords: dict[str, object]) -> str:
        stored = ", ".join(map(self._shape.argument, [*range(len(array)), *keywords]))
        return f"{self._name}: signature changed: stored ({short(stored)}), task takes {self._shape.text}"

    def encode_result(self, value: object, *, max_bytes: int) -> str:
        """JSON text of what the task returned. Raises InvalidResult.

        The work is done, so another type than declared is stored all the same. But of the declared type, what would come
        back as something else without a word is refused.
        """
        if inspect.iscoroutine(value):
            raise InvalidResult(f"{self._name}: the task returned a coroutine: did you forget await?")
        text = encode_plain(value, path=f"{self._name}: result", max_bytes=max_bytes, error=InvalidResult)
        check = self._checks.get("return")
        if check is not None and type(value) not in check.kinds:
            try:
                if (doubt := self._doubt(check, value, True)) is not None:
                    doubt(value, _load(text), self._readers.get("return", as_is))
            except Lost as lost:
                raise InvalidResult(f"{self._name}: result{lost.path()} {lost.problem}") from None
            except Unfit:
                pass
        return text

    def decode_result(self, text: str | None) -> object:
        """The result again, by the return annotation; None if none was stored. Raises InvalidResult."""
        if text is None:
            return None
        try:
            return self._readers.get("return", as_is)(_load(text))
        except Unfit as unfit:
            raise InvalidResult(f"{self._name}: result{unfit.path()} {unfit.problem}") from unfit.__cause__
        except ValueError as error:
            raise InvalidResult(f"{self._name}: the stored result is not JSON: {short(str(error))}") from None


class _Shape:
    """What a function takes. `call` is an empty twin of it: calling that says what Python says about a wrong call."""

    def __init__(self, function: Callable[..., object], name: str, signature: inspect.Signature) -> None:
        parameters = signature.parameters.values()
        self.positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.keywords = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        self.rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
        self.extra = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), "")
        self.optional = {p.name for p in parameters if p.default is None}
        self.text = str(signature).replace("=Ellipsis", "=...")
        # As collections.namedtuple does; the text holds nothing but names, which inspect has checked. Faster than
        # Signature.bind (0.1 against 3 us), and the only source of Python's own words.
        self.call: Callable[..., None] = eval(f"lambda {self.text[1:-1]}: None", {})
        self.call.__qualname__ = getattr(function, "__qualname__", name)

    def parameter(self, key: int | str) -> str:
        """The parameter that takes the argument."""
        if isinstance(key, int):
            return self.positional[key] if key < len(self.positional) else self.rest
        return key if key in self.keywords else self.extra

    def argument(self, key: Any) -> str:
        """How messages call an argument."""
        if isinstance(key, int):
            beyond = key - len(self.positional)
            return self.positional[key] if beyond < 0 else f"{self.rest}[{beyond}]" if self.rest else f"#{key + 1}"
        return str(key)


def _signatures(function: Callable[..., object]) -> tuple[inspect.Signature, inspect.Signature | None]:
    """The signature, and that of an opaque wrapper, without annotations, and with `...` for every default but None."""
    try:
        declared, own = signatures_of(function)
    except ValueError:  # some functions written in C have none: they check their calls themselves
        declared, own = inspect.signature(lambda *args, **kwargs: None), None
    return _bare_signature(declared), None if own is None else _bare_signature(own)


def _bare_signature(signature: inspect.Signature) -> inspect.Signature:
    bare = [_bare(parameter) for parameter in signature.parameters.values()]
    return signature.replace(parameters=bare, return_annotation=signature.empty)


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    known = parameter.default is None or parameter.default is parameter.empty
    return parameter.replace(annotation=parameter.empty, default=parameter.default if known else ...)
