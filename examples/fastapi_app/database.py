"""The engine, the tables, and the session of a request: one transaction, committed before the answer is sent."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# postgresql+asyncpg://user:password@host/database: pgqueue reads the same variable.
engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=5, max_overflow=10)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """Of all tables."""


class Order(Base):
    """What somebody wants to have."""

    __tablename__ = "shop_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    quantity: Mapped[int]
    state: Mapped[str] = mapped_column(default="placed")


class Stock(Base):
    """What there is."""

    __tablename__ = "shop_stock"

    id: Mapped[int] = mapped_column(primary_key=True)
    left: Mapped[int]


async def _session() -> AsyncIterator[AsyncSession]:
    async with new_session.begin() as session:
        yield session


# scope="function": FastAPI's default would commit after the answer, and a commit that fails would be a 200.
Session = Annotated[AsyncSession, Depends(_session, scope="function")]
