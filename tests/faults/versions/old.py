"""The application as it was."""

import time

from tenacity import retry_if_exception_type, wait_fixed

from pgqueue import App

app = App()


@app.task(name="shop.greet")
def greet(name: str) -> str:
    time.sleep(0.01)
    return f"hello {name}"


@app.task(name="shop.shout", max_attempts=1, retry=retry_if_exception_type(OSError))
def shout(name: str) -> str:
    return f"{name}!"


@app.task(name="shop.whisper", max_attempts=2, wait=wait_fixed(0.05), atomic=True)
async def whisper(name: str) -> str:
    return name
