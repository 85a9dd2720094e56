"""What we say to the database: one builder for each .sql file, each returning a Statement, which is a pure value.

One class for each folder of sql/, and for that of the doctor; Queries is all of them.
"""

from pgqueue.queries.bench import BenchQueries
from pgqueue.queries.channels import ChannelQueries
from pgqueue.queries.client import ClientQueries
from pgqueue.queries.django import DjangoQueries
from pgqueue.queries.doctor import DoctorQueries
from pgqueue.queries.events import EventsQueries
from pgqueue.queries.lease import LeaseQueries
from pgqueue.queries.ops import OpsQueries
from pgqueue.queries.schedules import ScheduleQueries
from pgqueue.queries.schema import SchemaQueries, first_line, migrations, pieces, works_with
from pgqueue.queries.statement import (
    LOCK_CLASS,
    Row,
    Rows,
    Statement,
    Steps,
    TogetherSteps,
    ask,
    session,
    session_of_others,
    texts,
)
from pgqueue.queries.triggers import TriggersQueries
from pgqueue.queries.webhooks import WebhookQueries
from pgqueue.queries.worker import CLAIM_BYTES, WorkerQueries


class Queries(
    ClientQueries,
    WorkerQueries,
    LeaseQueries,
    OpsQueries,
    DoctorQueries,
    SchemaQueries,
    BenchQueries,
    DjangoQueries,
    EventsQueries,
    ChannelQueries,
    TriggersQueries,
    WebhookQueries,
    ScheduleQueries,
):
    """All statements for one schema."""


__all__ = [
    "CLAIM_BYTES", "LOCK_CLASS", "Queries", "Row", "Rows", "Statement", "Steps", "TogetherSteps", "ask", "first_line",
    "migrations", "pieces",    "session", "session_of_others", "texts", "works_with",
]  # fmt: skip
