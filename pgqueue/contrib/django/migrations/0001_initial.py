"""sql/migrations/0001_initial.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(1)
