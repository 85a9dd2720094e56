"""The tests of the shop, on a real database: DATABASE_URL names one that `pgqueue migrate` has prepared."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete

import pgqueue
from examples.fastapi_app.database import Order, Stock, engine, new_session
from examples.fastapi_app.main import web
from examples.fastapi_app.tasks import confirm


@pytest.fixture
def client() -> Iterator[TestClient]:
    """The application with ten pieces in stock. As a context manager it has one event loop for all requests."""
    with TestClient(web) as client:
        assert client.portal is not None
        client.portal.call(stock_up, 10)
        yield client


async def stock_up(left: int) -> None:
    async with new_session.begin() as session:
        await session.execute(delete(Order))
        await session.execute(delete(Stock))
        session.add(Stock(left=left))


def work() -> None:
    """Have a worker run what there is."""
    words = [sys.executable, "-m", "pgqueue", "worker", "-A", "examples.fastapi_app.tasks", "-c", "1", "--burst"]
    subprocess.run(words, check=True)


def test_an_order_is_confirmed(client: TestClient) -> None:
    placed = client.post("/orders", json={"email": "a@b.c", "quantity": 10})
    assert placed.status_code == 201 and placed.json()["state"] == "placed"
    work()
    assert client.get(f"/orders/{placed.json()['id']}").json()["state"] == "confirmed"
    (job,) = pgqueue.app.jobs(task=confirm.name, limit=1)
    assert pgqueue.app.result(job.id) == "a@b.c: 10 confirmed"


def test_what_is_sold_out_leaves_neither_an_order_nor_a_job(client: TestClient) -> None:
    before = [job.id for job in pgqueue.app.jobs(task=confirm.name)]
    assert client.post("/orders", json={"email": "a@b.c", "quantity": 11}).status_code == 409
    assert [job.id for job in pgqueue.app.jobs(task=confirm.name)] == before


def test_the_function_of_the_task() -> None:
    """Called plainly it is the plain function."""

    async def main() -> str:
        async with new_session.begin() as session:
            order = Order(email="d@e.f", quantity=2)
            session.add(order)
        try:
            return await confirm(order.id)
        finally:
            await engine.dispose()  # its connections belong to this event loop

    assert asyncio.run(main()) == "d@e.f: 2 confirmed"
