"""What the tries of one defer or publish tell: whether to try again, how long, and whether it may be there without an answer."""

import uuid
from types import TracebackType

from pgqueue import db
from pgqueue.client.enqueue import InsertedMany
from pgqueue.errors import DatabaseUnavailable, OutcomeUnknown, Repeat


class Tries:
    """Around the further tries of a `defer`, or the only one of a `defer_many`; a context manager.

    Once what makes a job was sent and not answered, only an answer tells what became of it. That a later try found no connection,
    or was refused, says nothing of the first; so from then on OutcomeUnknown comes out of the block, with the job's id.

    ours: on a connection of ours. A caller looks after its own connection, and its transaction with what failed in it. alone:
    each statement commits by itself there; else what was lost went with its transaction. noun: what is made.
    """

    def __init__(
        self,
        *,
        ours: bool,
        alone: bool,
        allowance: db.Allowance,
        job_id: str = "",
        repeats: tuple[Repeat, Repeat] | None = None,
        noun: str = "job",
    ) -> None:
        self._noun = noun
        self._ours = ours
        self._alone = alone
        self.allowance = allowance
        self._job_id = job_id
        self._count = 1
        self._repeats = repeats
        self._doubt = ""  # why nobody knows, if nobody does
        self._was_read_only = False

    def after(self, error: db.DatabaseError | None) -> None:
        """Further tries come now. error: what the first one failed with; raised if there is no use in another. None: the
        first ones were some time ago, and their outcome is unknown.
        """
        if error is None:
            self._doubt = "the first try was not answered"
        elif not (self.may_repeat(error) and self._ours):
            raise error

    def may_repeat(self, error: BaseException) -> bool:
        """Whether to try again after one that failed so.

        A session that has been open may be to a primary that no longer is one; only a new one tells whether it is the setting.
        """
        self._learn(error)
        if isinstance(error, db.ReadOnlyDefault):
            before, self._was_read_only = self._was_read_only, True
            return not before
        return db.may_repeat(error)

    def commit(self, inserted: InsertedMany) -> None:
        """All rows of a `defer_many` are with the server, which has taken them; its COMMIT comes next. Before that a loss
        leaves nothing.
        """
        new = (index for index in range(len(inserted.ids) // 16) if index not in inserted.found)
        if (first := next(new, None)) is not None:
            self._job_id = str(uuid.UUID(bytes=inserted.ids[first * 16 : first * 16 + 16]))
            self._count = len(inserted.ids) // 16 - len(inserted.found)

    def commit_all(self, ids: list[str]) -> None:
        """As `commit`, where each of these is new."""
        if ids:
            self._job_id, self._count = ids[0], len(ids)

    def __enter__(self) -> "Tries":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, db.DatabaseError | DatabaseUnavailable):
            return
        self._learn(error.__cause__ or error)
        if self._doubt:
            repeats = self._repeats if self._ours else None
            raise OutcomeUnknown(self._told(), self._job_id, self._count, repeats) from error

    def _learn(self, error: BaseException) -> None:
        alone = error.alone if isinstance(error, db.GoneAway) else self._alone
        if alone and self._job_id and not self._doubt and db.is_lost(error):
            self._doubt = (str(error).splitlines() or [type(error).__name__])[0]

    def _told(self) -> str:
        what, doubt = f"{self._noun} {self._job_id}", self._doubt
        if not self._ours:
            return (
                f"it is not known whether {what} was created on the given connection: it was sent and not answered ({doubt}). "
                "Ask for it later; if a transaction was open there, it was rolled back"
            )
        if self._repeats is None:
            return (
                f"it is not known whether {self._count} {self._noun}s were created, all or none: their COMMIT was sent and not "
                f"answered ({doubt}). Ask later for the first one, {self._job_id}"
            )
        return (
            f"it is not known whether {what} was created: it was sent and not answered ({doubt}). Ask for it later, or call "
            f"again() of this error, which creates this {self._noun} unless it exists"
        )
