"""sql/migrations/0016_breaker.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(16)
