"""The jobs as Django's admin knows them: a model of the view `jobs`, of which Django manages nothing."""

from typing import Any

from django.db import models

from pgqueue.job import Snapshot


class JobRow(models.Model):
    """One job, alive or ended. The admin reads it by pgqueue's own statements, whatever the number of jobs."""

    id: Any = models.UUIDField(primary_key=True)
    state: Any = models.TextField()
    task: Any = models.TextField()
    queue: Any = models.TextField()
    priority: Any = models.SmallIntegerField()
    attempt: Any = models.IntegerField()
    created_at: Any = models.DateTimeField("created")
    started_at: Any = models.DateTimeField("started", null=True)
    finished_at: Any = models.DateTimeField("finished", null=True)
    result: Any = models.TextField(null=True)
    error: Any = models.TextField(null=True)

    class Meta:
        managed = False
        db_table = '"pgqueue"."jobs"'
        default_permissions = ("view", "change")
        verbose_name = "job"

    def __str__(self) -> str:
        return f"{self.task} {self.id}"

    @classmethod
    def of(cls, job: Snapshot) -> "JobRow":
        """As it was read."""
        names = [field.attname for field in cls._meta.concrete_fields]
        return cls(**{name: getattr(job, name) for name in names})
