#!/usr/bin/env bash
# One would guess: an option declared `count: int` of a Typer command takes what Python's int() takes of a text, as Click's
# INT did, on which Typer was built for years: `--count 3.0` is refused like `--count 3.5`.
# What happens: since it left Click, Typer hands the text to pydantic in its lenient mode, in which "3.0" is the integer 3.
# `--count 3.0` runs the command with 3, `--count 3.5` is refused. Click 8.3.1 refuses both. So a script that passes a float by
# mistake (from JavaScript, a spreadsheet, or jq's 3.0) is stopped by the one and not by the other.
# Seen with: typer 0.29.2 (_coercion.py, AdapterRuntimeParam) on pydantic 2.14.4 (its conversion table has str to int in lax
# mode), and click 8.3.1 (types.py, IntParamType).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --quiet --disable-pip-version-check typer==0.29.2 pydantic==2.14.4 click==8.3.1
cat >"$folder/with_typer.py" <<'PY'
import typer


def main(count: int = typer.Option()) -> None:
    print(repr(count))


typer.run(main)
PY
cat >"$folder/with_click.py" <<'PY'
import click


@click.command()
@click.option("--count", type=int)
def main(count: int) -> None:
    print(repr(count))


main()
PY
said() { "$folder/venv/bin/python" "$folder/with_$1.py" --count "$2" 2>/dev/null || echo refused; }
seen="typer 3.0: $(said typer 3.0), typer 3.5: $(said typer 3.5), click 3.0: $(said click 3.0), click 3.5: $(said click 3.5)"
echo "$seen"
[ "$seen" = "typer 3.0: 3, typer 3.5: refused, click 3.0: refused, click 3.5: refused" ]
