"""What the shop keeps."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Flask-SQLAlchemy makes its models of this."""


db = SQLAlchemy(model_class=Base)


class Order(db.Model):  # type: ignore[name-defined,misc] # the class is made at run time
    """One order; confirmed by a job."""

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    confirmation: Mapped[str | None]
