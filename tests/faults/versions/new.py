"""The application after the deploy."""

from pgqueue import App
from tests.faults.versions.old import greet as greet_as_before

app = App()
greet = app.task(name="shop.greet")(greet_as_before.function)


@app.task(name="shop.part", queue="default")
def part(name: str) -> str:
    return f"goodbye {name}"


@app.task(name="shop.shout", max_attempts=1)
def shout(name: str, loudly: bool = False) -> str:
    return f"{name.upper() if loudly else name}!"


@app.task(name="shop.whisper", max_attempts=2, atomic=True)
async def whisper(name: str, softly: bool = False) -> str:
    return "" if softly else name
