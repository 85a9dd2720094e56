"""The project's addresses."""

from django.urls import path

from examples.django_app.shop import views

urlpatterns = [path("orders", views.orders), path("orders/<int:order_id>", views.order)]
