"""A place in the log that a client can keep for itself, as the id of a server-sent event is kept by a browser.

It holds the snapshots themselves and not the numbers of ticks, which are thinned out: of the window between two snapshots all
events up to one are done, and everything that the first one sees. So who reads on from it finds the same windows, with the same
events in the same order, whatever was committed late.
"""

import re
from typing import NamedTuple

_SNAPSHOT = r"[0-9a-f]{1,16}(?:-[0-9a-f]{1,16})+"
_POSITION = re.compile(rf"([0-9]{{1,5}})\.([0-9a-f]{{1,10}})\.({_SNAPSHOT})(?:\.({_SNAPSHOT})\.([0-9a-f]{{1,15}}))?")
MAX_POSITION = 20_000  # characters: a thousand transactions under way in each snapshot
MAX_ID = 2**63 - 1


class Position(NamedTuple):
    """Everything that `since` sees is done, and of what `upto` sees as well all up to the number `seq`. Snapshots as the server
    writes them; at: when `since` was taken, in seconds since 1970."""

    era: int
    at: int
    since: str
    upto: str
    seq: int = 0

    def __str__(self) -> str:
        whole = f"{self.era}.{self.at:x}.{_short(self.since)}"
        return whole if self.since == self.upto else f"{whole}.{_short(self.upto)}.{self.seq:x}"


def read_position(text: str) -> Position:
    """Raises ValueError for what is none: it may come from anybody."""
    found = _POSITION.fullmatch(text) if len(text) <= MAX_POSITION else None
    if found is None:
        raise ValueError("not a position in the log")
    era, at, since, upto, seq = found.groups()
    first = _long(since)
    return Position(int(era), int(at, 16), first, first if upto is None else _long(upto), int(seq or "0", 16))


def _short(snapshot: str) -> str:
    """The transactions as distances from the first one."""
    xmin, xmax, under_way = snapshot.split(":")
    first = int(xmin)
    rest = [int(xmax), *map(int, under_way.split(","))] if under_way else [int(xmax)]
    return "-".join(f"{number:x}" for number in [first, *(number - first for number in rest)])


def _long(text: str) -> str:
    first, *rest = (int(part, 16) for part in text.split("-"))
    xmax, *under_way = (first + distance for distance in rest)
    if not (0 < first <= xmax <= MAX_ID and under_way == sorted(set(under_way)) and all(x < xmax for x in under_way)):
        raise ValueError("not a snapshot")
    return f"{first}:{xmax}:{','.join(map(str, under_way))}"
