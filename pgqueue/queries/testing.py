"""What the testing kit says: about its databases, and about time."""

from datetime import datetime

from pgqueue.queries.statement import Statement, Texts


class KitQueries(Texts):
    """The files of sql/testing. Not among Queries, so that a program that tests nothing does not read this."""

    def now(self) -> Statement[datetime]:
        return Statement(self.text("testing/now"), row=lambda row: datetime.fromisoformat(row[0]))
