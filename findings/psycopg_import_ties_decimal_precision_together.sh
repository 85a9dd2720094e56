#!/usr/bin/env bash
# One would guess: decimal's context belongs to the coroutine, so a task that lowers the precision changes its own sums
#   only. Python's page "decimal" calls the context coroutine-local (HAVE_CONTEXTVAR), and a program that says nothing
#   else sees just that.
# What happens: after a mere `import psycopg` the same task changes the sums of every other task, and of the program
#   after the loop has ended. Importing makes Decimal constants (psycopg/types/numeric.py), and the first Decimal puts a
#   context into the importer's contextvars. Each later task copies the variable and not the context in it
#   (Modules/_decimal/_decimal.c), so `decimal.getcontext().prec = 5` writes to the one that all share.
#   `decimal.localcontext()` is safe in both programs.
# Seen with: psycopg 3.3.9, CPython 3.11.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --quiet --disable-pip-version-check 'psycopg[binary]==3.3.9'

cat > "$work/program.py" <<'PYTHON'
import asyncio
import sys
from decimal import Decimal, getcontext

if sys.argv[1] == "psycopg":
    import psycopg  # the only difference


async def rough():
    getcontext().prec = 5


async def main():
    await asyncio.create_task(rough())
    return Decimal(1) / 3


print(len(str(asyncio.run(main()))) - 2, len(str(Decimal(1) / 3)) - 2)
PYTHON

alone=$("$work/venv/bin/python" "$work/program.py" nothing)
tied=$("$work/venv/bin/python" "$work/program.py" psycopg)
echo "digits of 1/3 in another task, and after the loop, without psycopg: $alone"
echo "digits of 1/3 in another task, and after the loop, with psycopg:    $tied"
[ "$alone" = "28 28" ] && [ "$tied" = "5 5" ] || { echo "the behaviour has changed"; exit 1; }
