"""`python -m tests.faults.refusing worker ...`: the command line, with each place of each statement refused once.

From the first look for work on, whatever is said first with a place that has not had its turn is said with a value that no
statement takes. What was refused is told on standard output.

A batch that is refused is sent again in parts, and with nothing in it. Those are refused with it: if only some were, as the
last place has had its turn in the midst of it, the outcome that is left over would rightly be recorded as what was wrong.
"""

import dataclasses
from typing import Any, TypeVar

from pgqueue.cli import main
from pgqueue.cli.output import say
from pgqueue.queries import Queries, Statement

R = TypeVar("R")
done: set[tuple[str, str]] = set()
begun = False
plain_text, plain_say, plain_values, plain_beat = Queries.text, Queries._say, Queries._values, Queries.beat
names: dict[str, str] = {}
SIFTED = ("finish", "settle", "progress")  # in parts, if they are refused
rounds: dict[str, tuple[str, frozenset[str]]] = {}  # the place that is refused, and the batch


def text(self: Queries, file: str, /, **fragments: str) -> str:
    found = plain_text(self, file, **fragments)
    names[found] = file.rpartition("/")[2]
    return found


def refusing(statement: Statement[R]) -> Statement[R]:
    global begun
    name = names[statement.sql]
    begun = begun or name == "heads"
    if not begun:
        return statement
    batch = frozenset(statement.params["ids"]) if name in SIFTED else None
    if batch is not None and name in rounds:
        place, whole = rounds[name]
        if batch < whole:
            return refused(statement, place)
        del rounds[name]
    for place in statement.params:
        if (name, place) not in done:
            done.add((name, place))
            say(f"refused: {name}.{place}")
            if batch is not None:
                rounds[name] = (place, batch)
            return refused(statement, place)
    return statement


def refused(statement: Statement[R], place: str) -> Statement[R]:
    params: dict[str, Any] = {**statement.params, place: object()}
    return dataclasses.replace(statement, params=params)


def say_refusing(self: Queries, file: str, /, *row: Any, **params: Any) -> Statement[Any]:
    return refusing(plain_say(self, file, *row, **params))


def values_refusing(self: Queries, file: str, /, **params: Any) -> Statement[Any]:
    return refusing(plain_values(self, file, **params))


def beat_refusing(self: Queries, **beat: Any) -> Statement[Any]:
    return refusing(plain_beat(self, **beat))


# Not by plain assignment: a method has another type than the function that takes its place.
refusers = {"_say": say_refusing, "_values": values_refusing, "beat": beat_refusing}
for name, method in {"text": text, **refusers}.items():
    setattr(Queries, name, method)

if __name__ == "__main__":
    main()
