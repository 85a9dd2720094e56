"""The OPTIONS of our backend in TASKS."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from django.core.checks import Error

import pgqueue
from pgqueue.client.options import Options, check_name
from pgqueue.errors import ConfigError, InvalidOption

NAMES_OF_OPTIONS = ("DATABASE", "KEEP", "MAX_ATTEMPTS", "TIMEOUT")


def task_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """What OPTIONS says of all tasks, as `@pgqueue.task` takes it."""
    return {"max_attempts": given.get("MAX_ATTEMPTS"), "timeout": given.get("TIMEOUT")}


def option_errors(alias: str, given: Any, *, queues: Iterable[Any]) -> Iterator[Error]:
    """What is wrong with one backend of TASKS; the first is raised by enqueue."""
    where = f"TASKS['{alias}']"
    if not isinstance(given, Mapping):
        yield Error(f"{where}: OPTIONS takes a dict, not a {type(given).__name__}", id="pgqueue.E101")
        return
    for name in given.keys() - {*NAMES_OF_OPTIONS}:
        yield Error(
            f"{where}: OPTIONS has '{name}', which is not an option of pgqueue{_meant(name)}", id="pgqueue.E101"
        )
    try:
        Options.make(f"{where}: OPTIONS", **task_options(given))
        for queue in queues:
            check_name(f"{where}: a queue of QUEUES", queue)
    except InvalidOption as error:
        yield Error(str(error), id="pgqueue.E102")
    if given.get("KEEP") is not None:
        yield Error(
            f"{where}: OPTIONS has KEEP={given['KEEP']!r}, and get_result must find what a task returned: leave it out; "
            "PGQUEUE = {'KEEP_SUCCEEDED_DAYS': 7} says for how long results are kept",
            id="pgqueue.E103",
        )
    try:
        assert pgqueue.app.config
    except ConfigError as error:
        yield Error(f"{where}: {error}", id="pgqueue.E104")


def _meant(name: object) -> str:
    close = get_close_matches(str(name).upper(), NAMES_OF_OPTIONS, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; there are {', '.join(NAMES_OF_OPTIONS)}"
