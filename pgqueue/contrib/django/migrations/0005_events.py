"""sql/migrations/0005_events.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(5)
