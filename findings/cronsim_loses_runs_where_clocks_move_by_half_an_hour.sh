#!/usr/bin/env bash
# One would guess: `*/20 2 * * *` runs at 02:00, 02:20 and 02:40 on each day on which the clocks show these times once. In Lord Howe
# they do on 5 April 2026: clocks go back from 02:00 to 01:30, so the half hour before two comes twice, and that after it once.
# What happens: that night it runs at 02:40 alone; 02:00 and 02:20 are lost, without a word. `0 2 * * *` and `*/20 * * * *` run as
# they should, and in Berlin, whose clocks go back by an hour, `*/20 3 * * *` does too.
# Why: to come to the hour that is wanted the library sets the minute to 0 and steps by 3,600 s of real time. From 01:00 the steps
# come to the second 01:30 and then to 02:30: the hour fits, and what of it has passed is not looked at.
# Seen with: cronsim 2.8 (cronsim/cronsim.py, advance_hour and tick), CPython 3.11, tzdata 2026.3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --quiet --disable-pip-version-check cronsim==2.8 tzdata==2026.3
cat >"$folder/night.py" <<'PY'
from datetime import datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim


def night(zone: str, day: datetime, expression: str) -> str:
    begin = day.replace(tzinfo=ZoneInfo(zone))
    end = begin.replace(hour=4)
    return " ".join(f"{time:%H:%M}" for time in takewhile(lambda time: time < end, CronSim(expression, begin)))


lord_howe, berlin = datetime(2026, 4, 5, 0, 59), datetime(2026, 10, 25, 0, 59)
print("Lord Howe */20 2:", night("Australia/Lord_Howe", lord_howe, "*/20 2 * * *"))
print("Lord Howe 0 2:", night("Australia/Lord_Howe", lord_howe, "0 2 * * *"))
print("Lord Howe the next day:", night("Australia/Lord_Howe", lord_howe + timedelta(days=1), "*/20 2 * * *"))
print("Berlin */20 3:", night("Europe/Berlin", berlin, "*/20 3 * * *"))
PY
seen=$("$folder/venv/bin/python" "$folder/night.py")
echo "$seen"
[ "$seen" = "Lord Howe */20 2: 02:40
Lord Howe 0 2: 02:00
Lord Howe the next day: 02:00 02:20 02:40
Berlin */20 3: 03:00 03:20 03:40" ]
