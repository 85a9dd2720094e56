"""What the worker does. It imports the `tasks.py` of each app in INSTALLED_APPS by itself."""

from django.utils import timezone

from examples.django_app.shop.models import Order
from pgqueue import task


@task
def ship(order_id: int) -> str:
    """May run twice, and ships once."""
    order = Order.objects.get(pk=order_id)
    Order.objects.filter(pk=order_id, shipped_at=None).update(shipped_at=timezone.now())
    return f"{order.quantity} x {order.item} are on their way"


@task(queue="mail")
async def thank(order_id: int, name: str) -> str:
    order = await Order.objects.aget(pk=order_id)
    return f"thank you for the {order.item}, {name}"
