#!/usr/bin/env bash
# One would guess: `pytest -n 2 --dist loadgroup` runs all tests marked `xdist_group("database")` in one process, as its
# documentation says, so that they may share what only one of them can have at a time.
# What happens: on pytest 9.2.0 the mark does nothing, and nothing says so: the group's tests run in both processes at once. On
# pytest 9.1.1 they run in one, and their ids end in `@database`. The two packages may be installed together.
# Why: xdist appends the group to the private `item._nodeid` and reads it back from `item.nodeid`. Since 9.2.0 the id of an item
# is a structure of its own, which `nodeid` is made from; `_nodeid` is read by nobody.
# Seen with: pytest-xdist 3.8.0 (xdist/remote.py, pytest_collection_modifyitems), pytest 9.2.0 (_pytest/nodes.py, Node.nodeid)
# and 9.1.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/test_group.py" <<'PY'
import pathlib
import time

import pytest


@pytest.mark.xdist_group("database")
@pytest.mark.parametrize("number", range(6))
def test_where(number, worker_id):
    """Each process that runs one of the group leaves a file. A test takes a moment, so that both have time for some."""
    pathlib.Path(__file__).with_name(f"ran_in_{worker_id}").touch()
    time.sleep(0.2)
PY
processes() {
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install --quiet --quiet --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
  rm -f "$folder"/ran_in_*
  (cd "$folder" && "$folder/$1/bin/python" -m pytest -q -n 2 --dist loadgroup -p no:cacheprovider test_group.py >/dev/null)
  find "$folder" -maxdepth 1 -name 'ran_in_*' | wc -l
}
seen="processes that ran the group: on 9.1.1 $(processes 9.1.1), on 9.2.0 $(processes 9.2.0)"
echo "$seen"
[ "$seen" = "processes that ran the group: on 9.1.1 1, on 9.2.0 2" ]
