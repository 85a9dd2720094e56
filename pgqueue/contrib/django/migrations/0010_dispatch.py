"""sql/migrations/0010_dispatch.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(10)
