"""The App of a Django project, as a worker imports it: `manage.py pgqueue worker` names this module.

A child is a fresh interpreter. It sets Django up, and imports `tasks.py` of every app in INSTALLED_APPS.
"""

import django
from django.utils.module_loading import autodiscover_modules

import pgqueue
from pgqueue.config import environment
from pgqueue.errors import ConfigError

if environment("DJANGO_SETTINGS_MODULE") is None:
    raise ConfigError("which settings? Start the worker by `manage.py pgqueue worker`, or set DJANGO_SETTINGS_MODULE")

django.setup()
autodiscover_modules("tasks")

app = pgqueue.app
if not app.tasks:
    raise ConfigError("no app in INSTALLED_APPS has a task: write @task in its tasks.py (`from pgqueue import task`)")
