"""sql/migrations/0006_calls.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(6)
