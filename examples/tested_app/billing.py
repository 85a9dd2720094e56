"""Subscriptions that are charged every month, by a bank that is sometimes away."""

from dataclasses import dataclass

import psycopg
from tenacity import retry_if_exception_type, wait_fixed

from pgqueue import App, current_job

app = App()
MONTH_S = 30 * 86_400

TABLES = """
create table if not exists customer (id integer primary key, email text not null, cents integer not null);
create table if not exists payment (subscription integer not null, job uuid primary key);
"""


class BankAway(Exception):
    """Nothing was charged; later it may be."""


@dataclass
class Receipt:
    """What a customer is told."""

    email: str
    cents: int


def charge_card(email: str, cents: int) -> None:
    """The bank: tests put something else in its place."""
    raise BankAway


@app.task(queue="money", retry=retry_if_exception_type(BankAway), wait=wait_fixed(60), max_attempts=3, atomic=True)
def charge(subscription: int) -> Receipt:
    """Charge one month. The payment, the receipt's job and the next month's job commit together."""
    conn = current_job().conn
    email, cents = conn.execute("select email, cents from customer where id = %s", [subscription]).fetchone()
    charge_card(email, cents)
    conn.execute("insert into payment values (%s, %s)", [subscription, current_job().id])
    receipt = Receipt(email, cents)
    mail.options(conn=conn).defer(receipt)
    charge.options(conn=conn, delay=MONTH_S).defer(subscription)
    return receipt


@app.task
async def mail(receipt: Receipt) -> str:
    """Tell the customer."""
    return f"to {receipt.email}: we have charged {receipt.cents / 100:.2f}"


def subscribe(conn: psycopg.Connection, number: int, email: str, cents: int) -> None:
    """A new customer, who is charged at once: in the transaction of the caller."""
    conn.execute("insert into customer values (%s, %s, %s)", [number, email, cents])
    charge.options(conn=conn, unique=f"subscription-{number}").defer(number)
