"""sql/migrations/0012_gates.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(12)
