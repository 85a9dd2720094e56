"""A program on plain asyncpg, without an ORM; see README.md."""
