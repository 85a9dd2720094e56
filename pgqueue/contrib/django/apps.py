"""The app of Django: binds pgqueue's default App to the project's settings and database."""

from django.apps import AppConfig
from django.conf import settings
from django.core.signals import setting_changed

import pgqueue
from pgqueue.contrib.django.checks import register_checks
from pgqueue.contrib.django.project import PROJECT


class PgQueueConfig(AppConfig):
    """`"pgqueue.contrib.django"` in INSTALLED_APPS."""

    name = "pgqueue.contrib.django"
    label = "pgqueue"
    verbose_name = "pgqueue"

    def ready(self) -> None:
        """Called by Django once all apps are there; no database is asked."""
        pgqueue.app.bind(PROJECT)
        setting_changed.connect(PROJECT.forget)
        register_checks(getattr(settings, "TASKS", {}))
