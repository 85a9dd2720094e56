"""The application as it was."""

import time

from pgqueue import App

app = App()


@app.task(name="shop.greet")
def greet(name: str) -> str:
    time.sleep(0.01)
    return f"hello {name}"
