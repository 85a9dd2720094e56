"""Find the App that `-A module` or `-A module:attribute` names; the current folder is importable."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pgqueue
from pgqueue.app import App
from pgqueue.client.names import module_at
from pgqueue.errors import ConfigError


def load_app(spec: str) -> App:
    """Import the module and return its App: the attribute named, else `app`, else its only App, else the default one.

    Raises ConfigError when there is none; an exception of the module itself passes through unchanged.
    """
    name, _, attribute = spec.partition(":")
    module = _import(name)
    if attribute:
        return _attribute(module, attribute)
    if isinstance(getattr(module, "app", None), App):
        return _attribute(module, "app")
    apps = {id(value): value for value in vars(module).values() if isinstance(value, App)}
    if len(apps) == 1:
        return next(iter(apps.values()))
    if len(apps) > 1:
        raise ConfigError(f"{name} holds {len(apps)} Apps: say which, as in -A {name}:NAME")
    if pgqueue.app.tasks:
        return pgqueue.app
    raise ConfigError(
        f"{name} has no App and defines no @task: write `from pgqueue import task`, or name another module"
    )


def load_object(spec: str) -> Any:
    """Import the module and return what the attribute names: `module:name`, or `module:name.name`. Raises ConfigError."""
    name, _, attribute = spec.partition(":")
    if not attribute:
        raise ConfigError(f"'{spec}' names no object: write module:name")
    found: Any = _import(name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{spec} is missing: there is no {part}")
        found = getattr(found, part)
    return found


def make_importable() -> str:
    """Have Python find the modules of the current folder, as `python -m` does; returns the folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return here


def _import(name: str) -> ModuleType:
    here = make_importable()
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        hint = _hint(Path(name).resolve(), here) if name.endswith(".py") else ""
        raise ConfigError(f"'{name}' is not a valid module name: write it as in `import`, for example shop.tasks{hint}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, but what it imports is not
        raise ConfigError(
            f"there is no module '{name}' in {here} or on the Python path; check -A and the current folder"
        ) from None


def _hint(path: Path, here: str) -> str:
    """The same rule that names the tasks of a script, so that the worker knows what `python PATH` defers."""
    name, folder = module_at(path)
    where = "" if str(folder) == here else f", started in {folder}"
    return f"; did you mean -A {name}{where}?"


def _attribute(module: ModuleType, attribute: str) -> App:
    found = getattr(module, attribute, None)
    if not isinstance(found, App):
        kind = "is missing" if found is None else f"is a {type(found).__name__}, not an App"
        raise ConfigError(f"{module.__name__}:{attribute} {kind}")
    return found
