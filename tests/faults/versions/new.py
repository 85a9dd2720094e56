"""The application after the deploy."""

from tests.faults.versions.old import app, greet

__all__ = ["app", "greet"]


@app.task(name="shop.part", queue="default")
def part(name: str) -> str:
    return f"goodbye {name}"
