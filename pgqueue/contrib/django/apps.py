"""The app of Django: binds pgqueue's default App to the project's settings and database."""

from django.apps import AppConfig
from django.conf import settings
from django.core.signals import setting_changed
from django.db.models.signals import post_migrate

import pgqueue
from pgqueue.contrib.django.aftermath import follow
from pgqueue.contrib.django.care import care, care_async
from pgqueue.contrib.django.checks import register_checks
from pgqueue.contrib.django.project import PROJECT
from pgqueue.contrib.django.test_databases import let_go


class PgQueueConfig(AppConfig):
    """`"pgqueue.contrib.django"` in INSTALLED_APPS."""

    name = "pgqueue.contrib.django"
    label = "pgqueue"
    verbose_name = "pgqueue"

    def ready(self) -> None:
        """Called by Django once all apps are there; no database is asked."""
        pgqueue.app.bind(PROJECT)
        pgqueue.app.middleware(care)
        pgqueue.app.middleware(care_async)
        let_go()
        setting_changed.connect(PROJECT.forget)
        post_migrate.connect(follow)
        register_checks(getattr(settings, "TASKS", {}))
