"""sql/migrations/0015_keys.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(15)
