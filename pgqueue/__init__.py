"""pgqueue: a job queue on PostgreSQL. This is the front door; everything public is imported from here."""

__version__ = "0.1.0"
