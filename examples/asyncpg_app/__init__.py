"""A program on plain asyncpg, without an ORM; see examples/README.md."""
