"""sql/migrations/0014_fair.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(14)
