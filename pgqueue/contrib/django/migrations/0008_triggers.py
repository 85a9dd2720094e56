"""sql/migrations/0008_triggers.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(8)
