"""The example of a live page in two real browsers: each shows every change once, also when the web server was restarted."""

import asyncio
import json
from pathlib import Path

import psycopg
import pytest

from pgqueue import App
from tests.live import chromium
from tests.live.browser import free_port
from tests.live.servers import uvicorn

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        chromium.COMMAND is None,
        reason="no Chromium is installed (Debian: apt-get install chromium-headless-shell)",
    ),
]
SITE = "examples.live.main:web"
CHANGES = "JSON.stringify(changes.map(({op, key, row}) => [op, key.item, op === 'delete' ? null : row.amount]))"
SHOWN = "document.getElementById('rows').innerText"


def change(conn: psycopg.Connection, start: int) -> list[list[object]]:
    """Ten changes; as the page keeps them."""
    told: list[list[object]] = []
    for number in range(start, start + 4):
        conn.execute("insert into live_stock values (%s, %s)", [f"item{number}", number])
        conn.execute("update live_stock set amount = amount + 100 where item = %s", [f"item{number}"])
        told += [["insert", f"item{number}", number], ["update", f"item{number}", number + 100]]
    for number in range(start, start + 2):
        conn.execute("delete from live_stock where item = %s", [f"item{number}"])
        told.append(["delete", f"item{number}", None])
    return told


def test_two_browsers_see_every_change_once(app: App, conn: psycopg.Connection, dsn: str, tmp_path: Path) -> None:
    conn.execute("drop table if exists live_stock")
    asyncio.run(watch(conn, dsn, tmp_path, free_port()))
    conn.execute("drop table live_stock")


async def watch(conn: psycopg.Connection, dsn: str, folder: Path, port: int) -> None:
    async with chromium.chromium() as browser:
        with uvicorn(SITE, folder, dsn, port=port) as server:
            conn.execute("insert into live_stock values ('tea', 7)")
            pages = [await browser.open(f"http://127.0.0.1:{port}/") for _ in range(2)]
            for page in pages:
                await page.until(SHOWN, "tea\t7")
            told = change(conn, 0)
            for page in pages:
                await page.until(CHANGES, as_text(told))
            told += change(conn, 10)
            server.kill()
        told += change(conn, 20)
        with uvicorn(SITE, folder, dsn, port=port) as server:
            told += change(conn, 30)
            for page in pages:
                await page.until(CHANGES, as_text(told))
            server.stop()
        told += change(conn, 40)
        with uvicorn(SITE, folder, dsn, port=port):
            told += change(conn, 50)
            rows = "\n".join(
                f"{item}\t{amount}" for item, amount in conn.execute("select * from live_stock order by item")
            )
            for page in pages:
                await page.until(CHANGES, as_text(told))
                assert await page.value(SHOWN) == rows


def as_text(told: list[list[object]]) -> str:
    return json.dumps(told, separators=(",", ":"))
