"""The project's own tests. A job that was deferred is in the transaction that each test rolls back."""

from django.test import TestCase

import pgqueue
from examples.django_app.shop.models import Order
from examples.django_app.shop.tasks import ship


class Orders(TestCase):
    """The view and its jobs."""

    def test_an_order_has_its_jobs(self) -> None:
        answer = self.client.post("/orders", {"item": "tea", "quantity": "2", "name": "Ada"})
        self.assertEqual(answer.status_code, 201)
        self.assertEqual(pgqueue.app.snapshot(answer.json()["job"]).state, "queued")
        self.assertEqual({job.task.rpartition(".")[2] for job in pgqueue.app.jobs()}, {"ship", "thank"})

    def test_an_order_that_fails_leaves_none(self) -> None:
        with self.assertRaises(KeyError):
            self.client.post("/orders", {"item": "tea"})
        self.assertEqual(list(pgqueue.app.jobs()), [])
        self.assertEqual(Order.objects.count(), 0)

    def test_shipping(self) -> None:
        order = Order.objects.create(item="tea", quantity=2)
        self.assertEqual(ship(order.pk), "2 x tea are on their way")
        order.refresh_from_db()
        self.assertIsNotNone(order.shipped_at)
