"""What a worker runs: `pgqueue worker -A examples.fastapi_app.tasks --async 15`."""

import pgqueue
from examples.fastapi_app.database import Order, engine, new_session
from pgqueue import task


@task(max_attempts=5, timeout=30)
async def confirm(order_id: int) -> str:
    """Confirm an order. It was committed with this job, so it is there."""
    async with new_session.begin() as session:
        order = await session.get_one(Order, order_id)
        order.state = "confirmed"
        return f"{order.email}: {order.quantity} confirmed"


@pgqueue.app.on_child_stop
async def disconnect() -> None:
    """Each child of a worker has an engine of its own."""
    await engine.dispose()
