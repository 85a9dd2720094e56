"""`python -m tests.faults.refusing worker ...`: the command line, with each place of each statement refused once.

From the first look for work on, whatever is said first with a place that has not had its turn is said with a value that no
statement takes. What was refused is told on standard output.
"""

import dataclasses
from typing import Any

from pgqueue.cli import main
from pgqueue.cli.output import say
from pgqueue.queries import Queries, Statement

done: set[tuple[str, str]] = set()
begun = False
plain_text, plain_say = Queries.text, Queries._say
names: dict[str, str] = {}


def text(self: Queries, file: str, /, **fragments: str) -> str:
    found = plain_text(self, file, **fragments)
    names[found] = file.rpartition("/")[2]
    return found


def refusing(statement: Statement) -> Statement:
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


Queries.text = text  # type: ignore[method-assign]
Queries._say = lambda self, file, *row, **params: refusing(plain_say(self, file, *row, **params))  # type: ignore[method-assign]
plain_beat = Queries.beat
Queries.beat = lambda self, **beat: refusing(plain_beat(self, **beat))  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
