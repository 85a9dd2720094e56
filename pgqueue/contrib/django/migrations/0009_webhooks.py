"""sql/migrations/0009_webhooks.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(9)
