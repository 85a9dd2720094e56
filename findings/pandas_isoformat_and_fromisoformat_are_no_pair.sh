#!/usr/bin/env bash
# One would guess: what a class writes with isoformat(), its own fromisoformat() reads back. With datetime it is so,
#   and pandas.Timestamp is a datetime whose reference page lists both methods.
# What happens: Timestamp writes nine digits of the second, and Timestamp.fromisoformat, which is the one inherited from
#   datetime, drops the last three without a word; it gives a Timestamp, so its type shows nothing. Timestamp(text)
#   keeps them. NaT passes isinstance(..., datetime) though it is no Timestamp, writes "NaT", and that raises when read.
#   Code that keeps any datetime as isoformat() therefore stores what it cannot read, or reads another moment.
# Seen with: pandas 3.1.1 (pandas/_libs/tslibs/timestamps.pyx and nattype.pyx), CPython 3.11.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet --disable-pip-version-check 'pandas==3.1.1'

"$work/venv/bin/python" - <<'PYTHON'
import sys
from datetime import datetime

from pandas import NaT, Timestamp

moment = Timestamp("2024-01-01T00:00:00.123456789")
text = moment.isoformat()
back = Timestamp.fromisoformat(text)
print(f"written {text}\nread    {back.isoformat()}, a {type(back).__name__}; equal: {back == moment}")
lost = type(back) is Timestamp and (moment.nanosecond, back.nanosecond) == (789, 0)

print(f"NaT is a datetime: {isinstance(NaT, datetime)}, a Timestamp: {isinstance(NaT, Timestamp)}")
try:
    Timestamp.fromisoformat(NaT.isoformat())
    unreadable = False
except ValueError as error:
    print(f"read back, it raises: {error}")
    unreadable = True

odd = isinstance(NaT, datetime) and not isinstance(NaT, Timestamp)
sys.exit(0 if lost and Timestamp(text) == moment and odd and unreadable else "the behaviour has changed")
PYTHON
