"""The dashboard: fits every screen, shows hostile text harmlessly, says what to do when empty, and leaves no trace."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from pgqueue import dashboard
from pgqueue.dashboard.head import _block
from pgqueue.dashboard.page import View
from pgqueue.dashboard.words import per_s, span
from pgqueue.ops.stats import (
    Bucket,
    Count,
    QueueStats,
    Stats,
    SubscriptionStats,
    Totals,
    WorkerStats,
)
from pgqueue.queries.ops import Failure, RunningJob, UpcomingJob

NOW = datetime(2025, 3, 4, 12, 0, 7, tzinfo=UTC)
ID = "0195616f-5a3c-7000-8000-1234567890ab"
HOSTILE = [
    "\x1b[2J\x1b[31mred", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x1b\\", "\x9b31m", "[red]markup[/red]", "a\nb\tc\rd",
    "\u202eevil\u2066", "\x00\x08\x7f", "\u2028x", "x" * 10_000, "e\u0301" * 5000, "漢字" * 300, ":smile:", "\\[bold]",
]  # fmt: skip


def make_stats(text: str | None = None, *, rows: int = 3, subscribed: int = 0) -> Stats:
    """A full page; text stands for every string that others wrote."""

    def name(plain: str) -> str:
        return plain if text is None else text

    job = RunningJob(ID, name("shop.transcode"), name("video"), 2, 61.0, 0.41, name("pass 1"))
    return Stats(
        at=NOW,
        ever_used=True,
        queued=Count(12_345_678, exact=False),
        scheduled=Count(1873),
        running=Count(34),
        dead_kept=Count(17),
        succeeded_per_s=412.3,
        failed_per_s=0.42,
        last_hour=Totals(succeeded=1_483_920, failed=213, dead=4, cancelled=2),
        throughput=tuple(Bucket(NOW + timedelta(seconds=10 * i), i % 17 * 9.0, float(i == 40)) for i in range(60)),
        queues=tuple(QueueStats(name(f"q{i}"), Count(99 - i), 5.0, 1, i == 1, i != 2) for i in range(rows)),
        queues_not_shown=0,
        workers=tuple(
            WorkerStats(
                ID, name(f"host:{i}"), "alive", 9e4, 1.2, 8, 3, 3, (name("q"),), name("shop"), "1.0", (job,) * 3
            )
            for i in range(rows)
        ),
        workers_not_shown=0,
        subscriptions=tuple(
            SubscriptionStats(
                name=name(f"s{i}"),
                mode="relay",
                behind=Count(4000, exact=False),
                behind_s=61.0,
                lost=i % 2,
                paused=i == 1,
                stopped=i == 0,
                served=True,
                error=name("refused") if i == 0 else None,
                readers=(ID,),
            )
            for i in range(subscribed)
        ),
        upcoming=(UpcomingJob(ID, name("shop.retry"), name("mail"), NOW, 4.2, 3, 8),) * rows,
        failures=(Failure(ID, name("shop.send"), "q", NOW, 61.0, 3, name("h"), name("exception"), name("boom")),)
        * rows,
    )


EMPTY = Stats(
    at=NOW, ever_used=False, queued=Count(0), scheduled=Count(0), running=Count(0), dead_kept=Count(0),
    succeeded_per_s=0.0, failed_per_s=0.0, last_hour=Totals(),
    throughput=tuple(Bucket(NOW + timedelta(seconds=10 * i), 0.0, 0.0) for i in range(60)),
    queues=(), queues_not_shown=0, workers=(), workers_not_shown=0, upcoming=(), failures=(),
)  # fmt: skip


def draw(stats: Stats, *, width: int = 80, height: int | None = None, title: str = "me@db/shop", **how: Any) -> str:
    page = io.StringIO()
    console = Console(file=page, width=width, color_system=None, legacy_windows=False, **how)
    console.print(View(stats, title, height=height))
    return page.getvalue()


# -- layout --


@pytest.mark.parametrize("width", [40, 79, 80, 111, 112, 120, 200, 400])
@pytest.mark.parametrize(
    "stats", [make_stats(subscribed=3), make_stats(rows=50, subscribed=50), EMPTY], ids=["full", "many", "empty"]
)
def test_no_line_is_wider_than_the_terminal(stats: Stats, width: int) -> None:
    assert max(cell_len(line) for line in draw(stats, width=width).splitlines()) <= width


@pytest.mark.parametrize("size", [(80, 24), (80, 30), (100, 33), (120, 24), (120, 40), (200, 50), (112, 29)])
@pytest.mark.parametrize("rows", [0, 1, 3, 50])
def test_a_page_for_a_screen_fits_it_and_keeps_every_section(size: tuple[int, int], rows: int) -> None:
    width, height = size
    assert len(draw(make_stats(rows=rows, subscribed=rows), width=width, height=height).splitlines()) <= height
    page = draw(make_stats(rows=rows), width=width, height=height)
    assert len(page.splitlines()) <= height
    assert all(re.search(rf"^ *{name}|  {name}", page, re.M) for name in ("queues", "workers", "upcoming", "failures"))


def test_subscriptions_have_a_section_where_there_are_some() -> None:
    page = draw(make_stats(subscribed=2), width=100)
    assert re.search(r"s0 +relay +~4\.0k +1m 01s +⚠ stopped  refused  read by 567890ab", page)
    assert re.search(r"s1 +relay +~4\.0k +1m 01s +⚠ 1 lost  paused  read by", page)
    assert "subscriptions" not in draw(make_stats())


def test_a_printed_page_shows_everything() -> None:
    page = draw(make_stats(rows=50))
    assert all(f" q{i} " in page for i in range(50))
    assert page.count("shop.transcode") == 150
    assert " more" not in page


def test_what_is_missing_is_counted() -> None:
    page = draw(replace(make_stats(rows=40), queues_not_shown=950), height=24)
    shown = len(re.findall(r"^ q\d+ ", page, re.M))
    assert f"queues  and {990 - shown} more" in page


def test_a_low_screen_gives_up_the_jobs_of_workers_before_the_workers() -> None:
    page = draw(make_stats(rows=2), height=26)
    assert "host:0" in page
    assert "host:1" in page
    assert "shop.transcode" not in page


def test_the_most_remarkable_queues_are_kept_and_drawn_by_name() -> None:
    queues = tuple(QueueStats(name, Count(9), 1.0, 0, False, True) for name in ("zoo", "mail", "ant", *"bcdefgh"))
    page = draw(replace(make_stats(rows=9), queues=queues), height=24)
    assert re.findall(r"^ (\w+) +9 ", page, re.M) == ["mail", "zoo"]


# -- what it says --


def test_figures() -> None:
    page = draw(make_stats())
    assert re.search(r"~12M +1,873 +34 +412 +0.42 +17", page)
    assert "1,483,920 succeeded  213 failed  4 dead  2 cancelled" in page
    assert "1/s" not in draw(EMPTY)


def test_a_queue_says_when_it_is_paused_or_nobody_serves_it() -> None:
    lines = {line.split()[0]: line for line in draw(make_stats()).splitlines() if line.startswith(" q")}
    assert "paused" in lines["q1"]
    assert "⚠ no worker" in lines["q2"]
    assert "worker" not in lines["q0"]


def test_a_worker_shows_its_state_and_its_jobs() -> None:
    page = draw(make_stats())
    assert re.search(r"host:0 +3/8 +1d 01h +alive 1.2s", page)
    assert re.search(r"567890ab  shop.transcode +41% +1m 01s +pass 1", page)


def test_retries_and_failures() -> None:
    page = draw(make_stats())
    assert re.search(r"in 4.2s +12:00:07 +shop.retry +mail +retry 4/8", page)
    assert re.search(r"1m ago +567890ab +shop.send +3 +exception  boom", page)


def test_the_clock_is_utc_whatever_the_time_zone_of_the_session() -> None:
    elsewhere = replace(EMPTY, at=NOW.astimezone(timezone(timedelta(hours=5))))
    assert "12:00:07 UTC" in draw(elsewhere)


def test_an_empty_page_says_what_to_do() -> None:
    page = draw(EMPTY)
    assert "start one: pgqueue worker -A yourapp" in page
    assert "no jobs yet" in page
    assert "no jobs yet" not in draw(replace(EMPTY, ever_used=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0s"),
        (-3, "0.0s"),
        (9.96, "10s"),
        (59.7, "1m 00s"),
        (185, "3m 05s"),
        (15_600, "4h 20m"),
        (1e6, "11d 13h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(0.0, "0"), (0.017, "0.02"), (4.25, "4.2"), (1203.4, "1,203"), (1_234_567.0, "1.2M")]
)
def test_rates(rate: float, text: str) -> None:
    assert per_s(rate) == text


def test_a_little_is_never_drawn_as_nothing_and_nothing_never_as_a_little() -> None:
    assert _block(0.001, peak=1000.0, row=0, rows=4) == "▁"
    assert _block(0.0, peak=1000.0, row=0, rows=4) == "·"
    assert [_block(1000.0, peak=1000.0, row=row, rows=4) for row in range(4)] == ["█"] * 4


# -- hostile text --


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [80, 120])
def test_s13_hostile_text_moves_no_cursor(text: str, width: int) -> None:
    page = draw(make_stats(text, subscribed=1), width=width, title=text, force_terminal=True)
    assert not [char for char in page if (char < " " and char != "\n") or "\x7f" <= char <= "\x9f"]
    assert not re.search("[\u200b-\u200f\u2028-\u202e\u2066-\u2069]", page)
    assert max(cell_len(line) for line in page.splitlines()) <= width
    assert len(page) < 40_000


@pytest.mark.parametrize("text", HOSTILE)
def test_with_colours_the_only_escapes_are_styles(text: str) -> None:
    page = io.StringIO()
    console = Console(file=page, width=80, force_terminal=True, color_system="truecolor", legacy_windows=False)
    console.print(View(make_stats(text), text, trouble=text))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", page.getvalue())
    assert not [char for char in plain if (char < " " and char != "\n") or "\x7f" <= char <= "\x9f"]


def test_markup_is_shown_as_written() -> None:
    assert "[red]markup[/red]" in draw(make_stats("[red]markup[/red]"), width=200)


def test_replaced_characters_can_be_seen() -> None:
    assert dashboard.showable("a\x1b[0m\n\t\x7f\x9b\u202eb") == "a␛[0m␊␉␡��b"
    assert dashboard.showable("x" * 50, 10) == "x" * 9 + "…"
    assert cell_len(dashboard.showable("漢" * 50, 10)) <= 10


# -- the live screen, in a terminal of its own --

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from rich.console import Console
from pgqueue import dashboard
from test_dashboard import make_stats
calls = 0
def fetch():
    global calls
    calls += 1
    if calls > 1 and {fails!r}:
        raise ConnectionError("the database went away\\nand more")
    return make_stats()
dashboard.live(fetch, title="t", console=Console(), refresh_s=0.05)
print("left")
"""


class Terminal:
    """A program in a pseudo-terminal of 80 x 24."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fd, inner = pty.openpty()
        termios.tcsetwinsize(self.fd, (24, 80))
        self.before = termios.tcgetattr(self.fd)
        script = SCRIPT.format(folder=str(Path(__file__).parent), fails=fails)
        environment = {**os.environ, "TERM": "xterm-256color"}
        for fixed in ("NO_COLOR", "COLUMNS", "LINES"):  # xdist sets the width for its workers
            environment.pop(fixed, None)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script], stdin=inner, stdout=inner, stderr=inner, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(inner)
        self.output = ""

    def expect(self, text: str) -> None:
        while text not in self.output and select.select([self.fd], [], [], 30)[0]:
            try:
                self.output += os.read(self.fd, 65536).decode("utf-8", "replace")
            except OSError:
                break
        assert text in self.output, self.output[-2000:]

    def left_cleanly(self) -> None:
        self.expect("left")
        assert "\x1b[?1049h" in self.output
        assert self.output.rindex("\x1b[?1049l") > self.output.rindex("\x1b[?1049h")
        assert self.output.rindex("\x1b[?25h") > self.output.rindex("\x1b[?25l")
        assert termios.tcgetattr(self.fd)[:4] == self.before[:4]
        assert self.process.wait(timeout=30) == 0


@contextmanager
def terminal(*, fails: bool = False) -> Iterator[Terminal]:
    it = Terminal(fails=fails)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.wait()
        os.close(it.fd)


def test_q_leaves_and_restores_the_terminal() -> None:
    with terminal() as it:
        it.expect("q quits")
        os.write(it.fd, b"xq")
        it.left_cleanly()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_and_restores_the_terminal(number: signal.Signals) -> None:
    with terminal() as it:
        it.expect("q quits")
        it.process.send_signal(number)
        it.left_cleanly()


def test_a_database_that_goes_away_is_one_line_and_the_page_stays() -> None:
    with terminal(fails=True) as it:
        it.expect("the database went away (trying again; this page is")
        page = it.output.split("\x1b[H")[-1]
        assert "and more" not in page.split("queues")[0]
        os.write(it.fd, b"q")
        it.left_cleanly()


def test_a_new_size_is_drawn_at_once() -> None:
    with terminal() as it:
        it.expect("q quits")
        it.expect("and 1 more")
        it.output = ""
        termios.tcsetwinsize(it.fd, (60, 200))
        it.expect("shop.transcode")
        os.write(it.fd, b"q")
        it.expect("left")


def test_the_first_error_is_the_callers() -> None:
    def fetch() -> Stats:
        raise ConnectionError("no such host")

    page = io.StringIO()
    console = Console(file=page, force_terminal=True)
    with pytest.raises(ConnectionError):
        dashboard.live(fetch, title="t", console=console)
    assert page.getvalue() == ""
