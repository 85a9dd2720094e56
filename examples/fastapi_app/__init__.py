"""A web shop on FastAPI, with SQLAlchemy's AsyncSession on asyncpg; see examples/README.md."""
