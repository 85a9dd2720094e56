"""Tasks that leave a trace each time they run, in the app of the kit's tests."""

import time

import psycopg
from tenacity import wait_fixed

from pgqueue import current_job
from tests.testing.tasks import app


def note(text: str) -> None:
    with psycopg.connect(app.dsn, autocommit=True) as conn:
        conn.execute("insert into written values (%s)", [text])


def charge(text: str) -> None:
    note(f"charged {text}")


@app.task
def buy(text: str) -> str:
    charge(text)
    note(f"sent {text}")
    return text


@app.task(atomic=True, wait=wait_fixed(0.05))
def book(text: str) -> str:
    current_job().conn.execute("insert into written values (%s)", [text])
    return text


@app.task(atomic=True, wait=wait_fixed(0.05))
async def book_later(text: str) -> str:
    await current_job().conn.execute("insert into written values (%s)", [text])
    return text


@app.task
def hold(text: str) -> int:
    note(text)
    while current_job().token == 1:
        time.sleep(0.01)
    return current_job().token
