"""The web application: `fastapi run examples/fastapi_app/main.py`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, PositiveInt
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

import pgqueue
from examples.fastapi_app.database import Base, Order, Session, Stock, engine
from examples.fastapi_app.tasks import confirm


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncIterator[None]:
    """Without the tables of pgqueue the application does not start. It makes its own, for which yours has migrations."""
    async with pgqueue.app.lifespan():
        async with engine.begin() as conn:
            await conn.run_sync(Base.metadata.create_all)
        yield
    await engine.dispose()


web = FastAPI(lifespan=lifespan)


class Wanted(BaseModel):
    """The body of a request."""

    email: str
    quantity: PositiveInt = 1


class Placed(BaseModel):
    """The answer to it."""

    id: int
    state: str


@web.post("/orders", status_code=201)
async def place(wanted: Wanted, session: Session) -> Placed:
    """The order, its job and the stock: all of it is committed, or nothing."""
    order = Order(email=wanted.email, quantity=wanted.quantity)
    session.add(order)
    await session.flush()  # the database makes the id
    await confirm.options(conn=session).defer_async(order.id)
    await reserve(session, wanted.quantity)
    return Placed(id=order.id, state=order.state)


async def reserve(session: AsyncSession, quantity: int) -> None:
    """Take so many out of the stock, or refuse the whole request."""
    taken = update(Stock).where(Stock.left >= quantity).values(left=Stock.left - quantity).returning(Stock.left)
    if (await session.execute(taken)).first() is None:
        raise HTTPException(409, "sold out")


@web.get("/orders/{order_id}")
async def show(order_id: int, session: Session) -> Placed:
    """What has become of an order."""
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")
    return Placed(id=order.id, state=order.state)
