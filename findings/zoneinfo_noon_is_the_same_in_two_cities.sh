#!/usr/bin/env bash
# One would guess: time(12, tzinfo=ZoneInfo("Europe/Berlin")) is aware, for it was given a zone. It differs from New
#   York's noon, comparing it with a bare time is refused, and isoformat() shows an offset or complains.
# What happens: a zone of a city has no offset without a day, so ZoneInfo.utcoffset(None) is None, and the datetime page
#   ("Determining if an Object is Aware or Naive") counts such a time as naive. All cities' noons are equal, to each
#   other and to the bare one, with one hash: a set keeps the first of them. isoformat() drops the zone. It is so even
#   in Tokyo, which has kept one offset for more than seventy years, because it once had another; ZoneInfo("UTC") and
#   "Etc/GMT-9" never had another and give aware times. Thus a list of times sorts until the first "UTC" is in it.
# Seen with: CPython 3.11 (Lib/zoneinfo/_zoneinfo.py: only a zone with a single offset answers without a day), and
#   tzdata 2026.6.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet --disable-pip-version-check 'tzdata==2026.6'

PYTHONTZPATH='' "$work/venv/bin/python" - <<'PYTHON'
import sys
from datetime import time
from zoneinfo import ZoneInfo

noon = {zone: time(12, tzinfo=ZoneInfo(zone)) for zone in ("Europe/Berlin", "America/New_York", "Asia/Tokyo")}
fixed = {zone: time(12, tzinfo=ZoneInfo(zone)) for zone in ("UTC", "Etc/GMT-9")}
for zone, value in (noon | fixed).items():
    print(f"{zone:17} {value.isoformat():15} offset {value.utcoffset()}, equals a bare noon: {value == time(12)}")

kept = {time(12), *noon.values()}
print(f"kept in a set of a bare noon and three cities: {len(kept)}")
sorted(noon.values())
try:
    sorted([*noon.values(), fixed["UTC"]])
    refused = False
except TypeError as error:
    print(f"sorted with UTC's: {error}")
    refused = True

mute = {value.isoformat() for value in noon.values()} == {"12:00:00"}
aware = [value.isoformat() for value in fixed.values()] == ["12:00:00+00:00", "12:00:00+09:00"]
sys.exit(0 if len(kept) == 1 and mute and aware and refused else "the behaviour has changed")
PYTHON
