"""`python -m tests.faults.refusing worker ...`: the command line, with each place of each statement refused once.

From the first look for work on, whatever is said first with a place that has not had its turn is said with a value that no
statement takes. What was refused is told on standard output.
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


def text(self: Queries, file: str, /, **fragments: str) -> str:
    found = plain_text(self, file, **fragments)
    names[found] = file.rpartition("/")[2]
    return found


def refusing(statement: Statement[R]) -> Statement[R]:
    global begun
    name = names[statement.sql]
    begun = begun or name == "heads"
    for place in statement.params if begun else ():
        if (name, place) not in done:
            done.add((name, place))
            say(f"refused: {name}.{place}")
            params: dict[str, Any] = {**statement.params, place: object()}
            return dataclasses.replace(statement, params=params)
    return statement


def say_refusing(self: Queries, file: str, /, *row: Any, **params: Any) -> Statement[Any]:
    return refusing(plain_say(self, file, *row, **params))


def values_refusing(self: Queries, file: str, /, **params: Any) -> Statement[Any]:
    return refusing(plain_values(self, file, **params))


def beat_refusing(self: Queries, **beat: Any) -> Statement[Any]:
    return refusing(plain_beat(self, **beat))


# Not by plain assignment: a method has another type than the function that takes its place.
for name, method in {"text": text, "_say": say_refusing, "_values": values_refusing, "beat": beat_refusing}.items():
    setattr(Queries, name, method)

if __name__ == "__main__":
    main()
