"""The application: an order and the event that tells of it are one transaction; a worker relays the events to Redis."""

from functools import cache

import psycopg
from sqlalchemy import Engine, ForeignKey, UniqueConstraint, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from pgqueue import App

STREAM = "orders"

app = App()
app.relay(to="env:SHOP_BUS", types="order.*", name="orders")  # as redis://localhost:6379/0/orders


@cache
def engine() -> Engine:
    """The same database as the App's."""
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(app.dsn))


class Base(DeclarativeBase):
    """Our tables."""


class Customer(Base):
    """Who orders; `orders`: how many there have been."""

    __tablename__ = "outbox_customer"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    orders: Mapped[int] = mapped_column(default=0)


class Order(Base):
    """An order, numbered for each customer."""

    __tablename__ = "outbox_order"
    __table_args__ = (UniqueConstraint("customer_id", "number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("outbox_customer.id"))
    number: Mapped[int]
    item: Mapped[str]


def place_order(session: Session, customer_id: int, item: str) -> Order:
    """Write an order and publish it. Whatever becomes of the transaction becomes of both.

    The row lock lets the orders of one customer take turns, so that their events are in the order of their commits.
    """
    customer = session.get_one(Customer, customer_id, with_for_update=True)
    customer.orders += 1
    order = Order(customer_id=customer_id, number=customer.orders, item=item)
    session.add(order)
    session.flush()
    payload = {"id": order.id, "customer": customer_id, "number": order.number, "item": item}
    app.publish("order.placed", payload, key=f"customer:{customer_id}", conn=session)
    return order
