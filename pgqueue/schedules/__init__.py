"""Schedules: jobs that are made again and again, by whichever worker comes first, at the times that the database's clock says."""

TIMING = frozenset(("cron", "every", "tz", "missed", "missed_most", "overlap", "jitter"))
"""Options of @task that say when it runs."""
