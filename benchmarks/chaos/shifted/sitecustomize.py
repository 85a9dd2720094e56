"""Shifts what Python code of this process reads from the clock, by the seconds in the file that PGQUEUE_TEST_CLOCK names."""

import datetime
import os
import time
from pathlib import Path

_file = Path(os.environ["PGQUEUE_TEST_CLOCK"])
_true_time, _true_time_ns = time.time, time.time_ns
_true_localtime, _true_gmtime = time.localtime, time.gmtime


def _offset_s() -> int:
    return int(_file.read_text())


def _time() -> float:
    return _true_time() + _offset_s()


def _time_ns() -> int:
    return _true_time_ns() + _offset_s() * 1_000_000_000


class _Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(_time(), tz)


time.time, time.time_ns = _time, _time_ns
time.localtime = lambda seconds=None: _true_localtime(_time() if seconds is None else seconds)
time.gmtime = lambda seconds=None: _true_gmtime(_time() if seconds is None else seconds)
datetime.datetime = _Datetime  # type: ignore[misc]
