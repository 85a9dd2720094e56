"""sql/migrations/0002_surroundings.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(2)
