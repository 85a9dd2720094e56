"""The order and its jobs are in one transaction."""

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from examples.django_app.shop.models import Order
from examples.django_app.shop.tasks import ship, thank


@csrf_exempt
@require_POST
def orders(request: HttpRequest) -> JsonResponse:
    """Order something. Whatever is raised inside the block leaves neither an order nor a job."""
    with transaction.atomic():
        order = Order.objects.create(item=request.POST["item"], quantity=int(request.POST.get("quantity", 1)))
        job = ship.defer(order.pk)
        thank.enqueue(order.pk, name=request.POST["name"])
    return JsonResponse({"order": order.pk, "job": job.id}, status=201)


def order(request: HttpRequest, order_id: int) -> JsonResponse:
    """What became of it."""
    found = get_object_or_404(Order, pk=order_id)
    return JsonResponse({"item": found.item, "shipped_at": found.shipped_at})
