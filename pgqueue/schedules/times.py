"""When a schedule is due: pure arithmetic on the database's clock and this machine's time zones.

A fixed time, without `*` in its minute and hour, runs once on each of its days: where the clocks skip it, when they have jumped;
where they show it twice, at the first. With a `*` in either, real time continues: every 20 minutes stays every 20 minutes.

cronsim counts in wall time for the one and steps through real time for the other, but in whole hours, and so loses runs where
clocks move by half an hour. So it is asked within a span in which they do not move, at that span's fixed distance from UTC.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from cronsim import CronSim

from pgqueue.schedules.cron import zone

SECOND = timedelta(seconds=1)
LOOK = timedelta(days=7)  # no zone has moved its clocks and moved them back within a week


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """The times of one schedule: those of an expression, or one every few seconds from an anchor on."""

    cron: str | None = None
    every_s: float | None = None
    anchor_at: datetime | None = None
    tz: str = "UTC"

    def following(self, after: datetime) -> datetime | None:
        """The first time later than this, in UTC; None: there is none.

        Raises ValueError or ZoneInfoNotFoundError, a KeyError, where this machine cannot tell.
        """
        if self.cron is None:
            return self._interval(after)
        within, after = zone(self.tz), after.astimezone(UTC)
        minute, hour = self.cron.split()[-5:-3]
        if "*" in minute or "*" in hour:
            return _in_real_time(self.cron, within, after)
        return _in_wall_time(self.cron, within, after)

    def _interval(self, after: datetime) -> datetime:
        assert self.every_s is not None and self.anchor_at is not None
        every, anchor = timedelta(seconds=self.every_s), self.anchor_at.astimezone(UTC)
        moment = anchor + ((after - anchor) // every + 1) * every
        return moment if moment > after else moment + every

    def between(self, first: datetime, last: datetime, *, most: int) -> list[datetime]:
        """From a time that is due up to the last one, but not more than `most`."""
        times = [first]
        while len(times) < most and (moment := self.following(times[-1])) is not None and moment <= last:
            times.append(moment)
        return times

    def latest(self, first: datetime, now: datetime) -> datetime:
        """The last time up to now, by halves: years of seconds may have been missed since the first."""
        early, late, found = first, now, first
        while late - early > SECOND:
            middle = early + (late - early) / 2
            if (moment := self.following(middle)) is not None and moment <= now:
                early, found = middle, moment
            else:
                late = middle
        while (moment := self.following(found)) is not None and moment <= now:
            found = moment
        return found

    def upcoming(self, after: datetime) -> Iterator[datetime]:
        """All that follow, one by one."""
        while (moment := self.following(after)) is not None:
            yield moment
            after = moment


def _in_wall_time(cron: str, within: ZoneInfo, after: datetime) -> datetime | None:
    for wall in CronSim(cron, after.astimezone(within).replace(tzinfo=None)):
        # Not later: it was shown for the first time before this, and is shown for the second time now.
        if (moment := _first_shown(wall, within)) > after:
            return moment
    return None


def _first_shown(wall: datetime, within: ZoneInfo) -> datetime:
    """When clocks first show this time, or jump over it."""
    moment = wall.replace(tzinfo=within).astimezone(UTC)
    if moment.astimezone(within).replace(tzinfo=None) == wall:
        return moment
    return _change(within, wall.replace(tzinfo=within, fold=1).astimezone(UTC), moment)


def _in_real_time(cron: str, within: ZoneInfo, after: datetime) -> datetime | None:
    after = after.replace(microsecond=0)
    offset = _offset(within, after)
    while True:
        found = next(CronSim(cron, after.astimezone(timezone(offset))), None)
        if found is None:
            return None
        moment = found.astimezone(UTC)
        change = _next_change(within, after, moment, offset)
        if change is None:
            return moment
        after, offset = change - SECOND, _offset(within, change)


def _next_change(within: ZoneInfo, after: datetime, until: datetime, offset: timedelta) -> datetime | None:
    """When clocks next move, up to `until`. They have this offset from the second after `after` on, where they move then not."""
    early = after + SECOND
    while True:
        late = min(early + LOOK, until)
        if _offset(within, late) != offset:
            return _change(within, early, late)
        if late >= until:
            return None
        early = late


def _change(within: ZoneInfo, early: datetime, late: datetime) -> datetime:
    """The second from which on the offset is that of `late`."""
    offset = _offset(within, late)
    if _offset(within, early) == offset:
        return early
    while late - early > SECOND:
        middle = early + (late - early) // 2 // SECOND * SECOND
        if _offset(within, middle) == offset:
            late = middle
        else:
            early = middle
    return late


def _offset(within: ZoneInfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(within).utcoffset()
    assert offset is not None
    return offset
