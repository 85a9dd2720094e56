"""sql/migrations/0011_schedules.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(11)
