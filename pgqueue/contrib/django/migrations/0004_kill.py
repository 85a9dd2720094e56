"""sql/migrations/0004_kill.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(4)
