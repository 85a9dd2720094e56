"""sql/migrations/0007_notices.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(7)
