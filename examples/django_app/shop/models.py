"""What the shop keeps."""

from django.db import models


class Order(models.Model):
    """Something that somebody has ordered."""

    item = models.CharField(max_length=100)
    quantity = models.PositiveIntegerField()
    shipped_at = models.DateTimeField(null=True)
