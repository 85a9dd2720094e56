"""The name under which workers know a task: its module as they import it, and its place there.

It comes from the function's own module, so that every process of a program says the same: the script, what imports it, what
multiprocessing spawns from it, what runs it under a profiler or a debugger, and the worker.
"""

import inspect
import sys
from collections.abc import Callable
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from pgqueue.errors import ConfigError

# The script that runs, as Python calls it, and as multiprocessing calls it in the processes that it spawns.
_SCRIPTS = frozenset({"__main__", "__mp_main__"})


def name_of(function: Callable[..., Any]) -> str:
    """module.qualname of a function; raises ConfigError where no worker could import it by that."""
    qualname = function.__qualname__
    if "<lambda>" in qualname:
        raise ConfigError("a lambda cannot be a task without a name: give @task(name=...) or write a def")
    if "<locals>" in qualname:
        raise ConfigError(
            f"{qualname} is defined inside a function, where a worker cannot find it: move it to the module or give name="
            " (if that function is a decorator, functools.wraps in it keeps the name)"
        )
    return f"{_module_of(function)}.{qualname}"


def same_function(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both are one def, of a module that was loaded twice: reloaded, or run as a script and imported as well."""
    if one.__qualname__ != other.__qualname__:
        return False
    file = _file_of(one)
    return one.__module__ == other.__module__ or (file is not None and file == _file_of(other))


def module_at(path: Path) -> tuple[str, Path]:
    """The name by which a file is imported, and the folder from which: that of the outermost package, else its own.

    Python itself puts a script's own folder first on the path, so this is also what its neighbours call it. A worker
    imports from the folder it is started in; so what is started from within a package counts from there.
    """
    parts, folder, here = [path.stem], path.parent, Path.cwd().resolve()
    while folder != here and folder.name.isidentifier() and (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def _module_of(function: Callable[..., Any]) -> str:
    """A profiler, a debugger or a spawned process runs a script in a scope of its own: that says whose it is, not sys.modules."""
    module, scope = function.__module__, _scope_of(function)
    imported = module in sys.modules and all(part.isidentifier() for part in module.split("."))
    if imported and module not in _SCRIPTS:
        return module
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None or code.co_filename.startswith("<"):  # typed, or text given to exec()
        return _imported_from(None, function)
    spec = scope.get("__spec__")
    if imported and spec is not None and spec.name not in _SCRIPTS:  # python -m
        return str(spec.name)
    return _imported_from(scope.get("__file__"), function)


def _scope_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The variables of the module that holds the def, also if a decorator of another module is around it."""
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    module = sys.modules.get(function.__module__ or "")
    return scope if module is None or scope.get("__name__") == function.__module__ else vars(module)


def _imported_from(file: str | None, function: Callable[..., Any]) -> str:
    qualname = function.__qualname__
    if file is None:
        raise ConfigError(f"{qualname} is defined at a prompt, where no worker can import it: write it into a module")
    path = Path(file).resolve()
    name, _ = module_at(path)
    if name in _SCRIPTS:  # a zip archive, or a folder that is no package
        cure = "move it into a module next to it, or give name="
    elif path.suffix not in all_suffixes() or not path.stem.isidentifier():
        better = "".join(sign if sign.isalnum() else "_" for sign in path.stem)
        better = better if better.isidentifier() else f"tasks_{better}"
        cure = f"call the file {better}.py, or give name="
    else:
        return name
    raise ConfigError(f"{qualname} is defined in {path.name}, which no worker can import: {cure}")


def _file_of(function: Callable[..., Any]) -> Path | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return None if code is None or code.co_filename.startswith("<") else Path(code.co_filename).resolve()
