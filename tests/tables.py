"""The tables that are ours. Those that a test makes without a schema may lie among them, as the role is named as our schema."""

import re
from pathlib import Path

import pgqueue

MIGRATIONS = Path(pgqueue.__file__).parent / "sql" / "migrations"


def own_tables() -> set[str]:
    """As the migrations make them; those of days are not among them."""
    return {
        name
        for file in MIGRATIONS.glob("*.sql")
        for name in re.findall(r"create table \{schema\}\.(\w+)", file.read_text())
    }
