"""Tasks with a breaker, which fail as long as the table `shop.weather` says so, and note when they run."""

import os
import time

import psycopg

from pgqueue import Breaker, current_job, task

DSN = os.environ.get("LEDGER", "")

SHOP = """
create schema shop;
create table shop.weather (bad boolean not null, slow_s float8 not null default 0);
create table shop.ledger (id bigint generated always as identity, job text, at timestamptz default clock_timestamp(), pid integer);
insert into shop.weather values (true)
"""


def run(seconds: float) -> None:
    """Note that the job runs, and fail in bad weather."""
    with psycopg.connect(DSN, autocommit=True) as conn:
        conn.execute("insert into shop.ledger (job, pid) values (%s, %s)", [current_job().id, os.getppid()])
        bad, slow_s = conn.execute("select bad, slow_s from shop.weather").fetchone() or (True, 0.0)
        time.sleep(seconds + slow_s)
        if bad:
            raise ValueError("bad weather")


@task(breaker=Breaker(0.5, of=4, per=60, rest=0.5), max_attempts=1)
def call(seconds: float = 0.0) -> None:
    run(seconds)


@task(breaker=Breaker(0.5, of=4, per=60, rest=0.5), limit=2, max_attempts=3, atomic=True)
def store(seconds: float = 0.0) -> None:
    run(seconds)


@task(breaker=Breaker(0.5, of=4, per=60, rest=60))
def lightly() -> None: ...
