"""sql/migrations/0013_periods.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(13)
