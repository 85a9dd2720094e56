"""A program that loops over events and writes down what it got; at one number it stays where it is."""

import os
import time

import psycopg

from pgqueue import App

app = App()
stays_at = int(os.environ["TEST_STAYS_AT"])

with psycopg.connect(app.dsn, autocommit=True) as conn:
    for events in app.subscribe("order.*", name="search", batch=4, start="begin"):
        for event in events:
            conn.execute(
                "insert into shop.got (pid, number, key) values (%s, %s, %s)", [os.getpid(), event.payload, event.key]
            )
            while event.payload == stays_at:
                time.sleep(0.01)
