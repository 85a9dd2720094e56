"""What the worker does: a task of pgqueue, and one of Django. It imports the `tasks.py` of each app by itself."""

from typing import TYPE_CHECKING

import django
from django.utils import timezone

import pgqueue
from examples.django_app.shop.models import Order

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import task
else:  # the package for Django 5.2
    from django_tasks import task


@pgqueue.task
def ship(order_id: int) -> str:
    """May run twice, and ships once."""
    order = Order.objects.get(pk=order_id)
    Order.objects.filter(pk=order_id, shipped_at=None).update(shipped_at=timezone.now())
    return f"{order.quantity} x {order.item} are on their way"


@task(queue_name="mail")
async def thank(order_id: int, name: str) -> str:
    order = await Order.objects.aget(pk=order_id)
    return f"thank you for the {order.item}, {name}"
