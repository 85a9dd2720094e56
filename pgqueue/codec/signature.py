"""Which calls a task takes, seen through the decorators around its function.

functools.wraps makes a wrapper look like the function inside, but what is called is the wrapper, and it may fill in an argument
or take one away. So its source is read: where it only hands on what it gets, perhaps with some arguments of its own, the
signature is that of the function inside without those. Where it is not clear what it does with them, its own counts as well.
"""

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Set
from types import CodeType, FunctionType
from typing import Any, NamedTuple, TypeGuard

if sys.version_info >= (3, 14):  # annotations are evaluated when asked for, which forward references must survive
    from annotationlib import Format

    _declared = functools.partial(inspect.signature, annotation_format=Format.FORWARDREF)
else:
    _declared = inspect.signature

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_READERS = frozenset({
    "debug", "info", "warning", "error", "exception", "critical", "log", "print", "repr", "str", "iscoroutinefunction",
})  # fmt: skip


_ANY_CALL = inspect.signature(lambda *args, **kwargs: None)


class Signatures(NamedTuple):
    """A call fits if it fits `declared`; or else `own`, if a wrapper is opaque: by then nothing is known but names."""

    declared: inspect.Signature
    own: inspect.Signature | None = None


class _Handed(NamedTuple):
    """What a wrapper adds to the arguments that it hands on: how many in front, and which by name."""

    front: int
    named: frozenset[str]


def signatures_of(function: Callable[..., Any]) -> Signatures:
    """Raises ValueError for functions written in C that do not tell."""
    inner = _wrapped_by(function)
    if inner is None:
        return Signatures(_declared(function))
    if type(function) is not FunctionType:  # an object that looks like the function inside, as wrapt makes them
        seen = signatures_of(inner).declared
        return Signatures(seen, _with_names(_ANY_CALL, seen))
    own = _own(function)
    if not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in own.parameters.values()):
        return Signatures(own)
    behind, handed = signatures_of(inner), _handed_on(function, inner, own)
    declared = None if handed is None else _through(own, behind.declared, handed)
    if handed is None or declared is None:
        return Signatures(behind.declared, _with_names(own, behind.declared))
    return Signatures(declared, None if behind.own is None else _through(own, behind.own, handed))


def returns_as_it_is(function: Callable[..., Any]) -> bool:
    """Whether a plain wrapper surely returns what the function inside returned, so that a coroutine comes out of it."""
    inner = _wrapped_by(function)
    node = _source(function.__code__) if type(function) is FunctionType else None
    if inner is None or not isinstance(node, ast.FunctionDef):
        return False
    parts, names = list(_own_parts(node)), _names_of(inner, function)
    stored = [part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)]
    results = {
        part.targets[0].id
        for part in parts
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and _is_call(part.value, names)
    }
    returned = [part.value for part in parts if isinstance(part, ast.Return)]
    sure = {name for name in results if stored.count(name) == 1}
    return bool(returned) and all(_is_call(value, names) or _is_name(value, sure) for value in returned)


def _wrapped_by(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function inside, if this is a wrapper that says nothing else of its signature."""
    inner = getattr(function, "__wrapped__", None)
    if not inspect.isfunction(function) or not callable(inner):
        return None
    stated = getattr(function, "__signature__", None)
    # functools.wraps copies that of the function inside, which does not speak for the wrapper.
    return inner if stated is None or stated is getattr(inner, "__signature__", None) else None


def _own(function: Any) -> inspect.Signature:
    """Of the wrapper's def itself."""
    bare = FunctionType(function.__code__, {}, function.__name__, function.__defaults__, function.__closure__)
    bare.__kwdefaults__ = function.__kwdefaults__
    return inspect.signature(bare)


def _with_names(own: inspect.Signature, declared: inspect.Signature) -> inspect.Signature:
    """What a wrapper takes by any name is, if the function inside has a parameter of that name, for this one."""
    *mine, last = own.parameters.values()
    if last.kind is not last.VAR_KEYWORD:
        return own
    named = [
        p.replace(kind=p.KEYWORD_ONLY, default=None if p.default is None else ...)
        for p in declared.parameters.values()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in own.parameters
    ]
    return own.replace(parameters=[*mine, *named, last])


# -- what its source says --


@functools.cache
def _source(code: CodeType) -> ast.AST | None:
    """A def, if the file still holds it. One for all functions that a decorator wraps."""
    try:
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(code))).body
    except (OSError, SyntaxError, ValueError, TypeError):
        return None
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name != code.co_name:
        return None
    stars = [star for star in (node.args.vararg, node.args.kwarg) if star is not None]
    count = code.co_argcount + code.co_kwonlyargcount + len(stars)
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *stars]
    return node if [arg.arg for arg in named] == list(code.co_varnames[:count]) else None


def _names_of(inner: object, wrapper: Any) -> frozenset[str]:
    """By which variables of the decorator the wrapper knows the function inside."""
    found = set()
    for name, cell in zip(wrapper.__code__.co_freevars, wrapper.__closure__ or (), strict=True):
        try:
            if cell.cell_contents is inner:
                found.add(name)
        except ValueError:  # not yet filled
            continue
    return frozenset(found)


def _handed_on(wrapper: Any, inner: object, own: inspect.Signature) -> _Handed | None:
    """How it calls the function inside; None if that cannot be told: it may change what it hands on."""
    rest, extra = (
        next((p.name for p in own.parameters.values() if p.kind is kind), None)
        for kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    )
    return _handed_on_by(wrapper.__code__, rest, extra, _names_of(inner, wrapper))


@functools.cache
def _handed_on_by(code: CodeType, rest: str | None, extra: str | None, names: frozenset[str]) -> _Handed | None:
    node = _source(code)
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not names:
        return None
    calls: set[_Handed | None] = set()
    for part, above in _parts(node):
        if isinstance(part, ast.arg) and part.arg in {rest, extra, *names}:
            return None  # another variable of the same name
        if _is_call(part, names):
            calls.add(_as_handed(part, rest, extra))
        elif isinstance(part, ast.Name) and not _is_harmless(part, above, rest, extra, names):
            return None
    return calls.pop() if len(calls) == 1 else None


def _as_handed(call: ast.Call, rest: str | None, extra: str | None) -> _Handed | None:
    """function(one, two, *args, three=3, **kwargs): two in front and one by name."""
    front, named = list(call.args), [keyword.arg for keyword in call.keywords if keyword.arg is not None]
    stars = [keyword.value for keyword in call.keywords if keyword.arg is None]
    if rest is not None:
        last = front.pop() if front else None
        if not isinstance(last, ast.Starred) or not _is_name(last.value, {rest}):
            return None
    if [star.id if isinstance(star, ast.Name) else None for star in stars] != ([] if extra is None else [extra]):
        return None
    return None if any(isinstance(arg, ast.Starred) for arg in front) else _Handed(len(front), frozenset(named))


def _is_harmless(name: ast.Name, above: ast.AST, rest: str | None, extra: str | None, names: frozenset[str]) -> bool:
    """Whether this use of a variable leaves the arguments, and who gets them, as they are."""
    if name.id not in {rest, extra, *names}:
        return True
    if not isinstance(name.ctx, ast.Load):
        return False
    called = above.func if isinstance(above, ast.Call) else None
    if called is not None and getattr(called, "attr", getattr(called, "id", "")) in _READERS:
        return True
    if name.id in names:  # called, which is looked at by itself, or asked for its __name__
        return called is name or isinstance(above, ast.Attribute)
    return name.id == rest or isinstance(above, ast.keyword | ast.FormattedValue)  # a tuple, or a copy, or text


def _parts(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Everything in its body, each with what contains it."""
    todo: list[tuple[ast.AST, ast.AST]] = [(part, node) for part in node.body]
    while todo:
        part, above = todo.pop()
        yield part, above
        todo += [(child, part) for child in ast.iter_child_nodes(part)]


def _own_parts(node: ast.FunctionDef) -> Iterator[ast.AST]:
    """Without those of functions inside."""
    todo: list[ast.AST] = list(node.body)
    while todo:
        part = todo.pop()
        yield part
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo += ast.iter_child_nodes(part)


def _is_call(node: ast.AST | None, names: Set[str]) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and _is_name(node.func, names)


def _is_name(node: ast.AST | None, names: Set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


# -- what follows from it --


def _through(own: inspect.Signature, behind: inspect.Signature, handed: _Handed) -> inspect.Signature | None:
    """What the wrapper takes: its own parameters, and of those behind it what it does not fill in; None if that is nonsense."""
    mine = [p for p in own.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    kinds = {p.kind for p in own.parameters.values()}
    left = _without(list(behind.parameters.values()), handed)
    if left is None:
        return None
    if inspect.Parameter.VAR_KEYWORD not in kinds:  # def wrapper(*args): by position only
        left = [p.replace(kind=p.POSITIONAL_ONLY) if p.kind in _POSITIONAL else p for p in left]
        left = [p for p in left if p.kind in (*_POSITIONAL, p.VAR_POSITIONAL)]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:  # def wrapper(**kwargs): by name only
        left = [p.replace(kind=p.KEYWORD_ONLY) if p.kind is p.POSITIONAL_OR_KEYWORD else p for p in left]
        left = [p for p in left if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    try:
        return own.replace(parameters=sorted([*mine, *left], key=lambda parameter: parameter.kind))
    except ValueError:  # two of one name, or one with a default before one without
        return None


def _without(left: list[inspect.Parameter], handed: _Handed) -> list[inspect.Parameter] | None:
    """The parameters that the wrapper does not fill in."""
    for _ in range(handed.front):
        if not left or left[0].kind is inspect.Parameter.KEYWORD_ONLY:
            return None
        if left[0].kind in _POSITIONAL:
            left.pop(0)
    for name in handed.named:
        place = next((at for at, p in enumerate(left) if p.name == name and p.kind is not p.POSITIONAL_ONLY), None)
        if place is None:
            if not any(p.kind is p.VAR_KEYWORD for p in left):
                return None
        elif left.pop(place).kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            # What comes after it can be reached by name alone: by position its own place would come first.
            left = [
                p.replace(kind=p.KEYWORD_ONLY) if at >= place and p.kind is p.POSITIONAL_OR_KEYWORD else p
                for at, p in enumerate(left)
                if p.kind is not p.VAR_POSITIONAL
            ]
    return left
