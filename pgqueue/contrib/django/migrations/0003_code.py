"""sql/migrations/0003_code.sql, for `manage.py migrate`."""

from pgqueue.contrib.django.numbered import migration

Migration = migration(3)
