"""Settings of the project that the tests of Django's Tasks and of the admin run in; the environment says where its database is."""

import json
import os
from typing import Any

SECRET_KEY = "only for tests"
USE_TZ = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.django.website.urls"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "pgqueue.contrib.django",
    "tests.django.website.shop",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others take their time, on purpose
STATIC_URL = "static/"
DATABASE: dict[str, Any] = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ["SITE_DB_NAME"],
    "TEST": {"NAME": f"pgqueue_site_{os.getpid()}"},  # of no other run on the same server
    "USER": os.environ["SITE_DB_USER"],
    "HOST": os.environ["SITE_DB_HOST"],
    "PORT": os.environ["SITE_DB_PORT"],
    "PASSWORD": os.environ.get("SITE_DB_PASSWORD", ""),
}
if os.environ.get("SITE_BINDING") == "server":
    DATABASE["OPTIONS"] = {"server_side_binding": True}
if "SITE_CONN_MAX_AGE" in os.environ:
    DATABASE["CONN_MAX_AGE"] = None  # as long as the process lives
DATABASES = {"default": DATABASE}
TASKS = json.loads(os.environ.get("SITE_TASKS", "null")) or {
    "default": {"BACKEND": "pgqueue.contrib.django.Backend", "QUEUES": ["default", "mail"]},
    "anywhere": {
        "BACKEND": "pgqueue.contrib.django.Backend",
        "QUEUES": [],
        "OPTIONS": {"DATABASE": "default", "MAX_ATTEMPTS": 2, "TIMEOUT": 30},
    },
}
