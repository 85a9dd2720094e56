# Every target sets itself up: .venv is made when it is missing, and filled when pyproject.toml or the lock has changed.

PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

# Both are run only when an environment is made. The first Python that is new enough; then its own way to make one, or,
# as Debian's python3 comes without ensurepip, a pip from outside that fills it.
FIND_PYTHON = for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done
MAKE_VENV = $$python -m venv --clear .venv >/dev/null 2>&1 || { $$python -m venv --clear --without-pip .venv \
	  && $$python -m pip --python $(PY) install --quiet pip; }

.PHONY: help demo test test-long test-faults chaos chaos-mutants check lint types format bench bench-peers bench-before bench-plots \
	lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

demo: .venv/ready ## run every file of Python's standard library through the queue and check the sums
	@$(PY) -m examples.corpus.demo

test: .venv/ready ## run the tests
	@$(PY) -m pytest -n auto --dist worksteal --durations 10

test-long: .venv/ready ## run the long tests: faults that are quick, a million rows, the benchmarks, the demos
	@$(PY) -m pytest -n auto --dist loadgroup -m long --durations 10

test-faults: .venv/ready ## inject every fault, slow ones too, with nothing else running; the figures come last
	@PGQUEUE_STRICT_FIGURES=1 HYPOTHESIS_PROFILE=thorough $(PY) -m pytest tests/faults tests/model tests/buses -m "slow or not slow"

check: lint types test ## lint, types and tests

lint: .venv/ready ## look for mistakes, and for code that `make format` would change
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: .venv/ready ## check the types
	@$(PY) -m mypy

format: .venv/ready ## format the code and mend what can be mended without thinking
	@$(PY) -m ruff check --fix-only .
	@$(PY) -m ruff format .

chaos: .venv/ready ## break everything for a minute, then check that nothing was lost (CHAOS="--tier nightly --seed 7")
	@$(PY) -m benchmarks.chaos $(CHAOS)

chaos-mutants: .venv/ready ## make every known mistake in a copy of the package: the chaos run must notice each
	@$(PY) -m benchmarks.chaos.mutants

bench: .venv/ready ## measure the queue
	@$(PY) -m benchmarks

bench-peers: .venv/ready ## measure it beside Celery, RQ, Dramatiq, Procrastinate, PgQueuer, Oban, Graphile Worker (PEERS="--only pgqueue,celery")
	@$(PY) -m benchmarks.peers $(PEERS)

bench-before: .venv/ready ## measure it beside an earlier build, in interleaved pairs (BEFORE="c1f99d7 --pairs 30 --only drain-1")
	@$(PY) -m benchmarks.before $(BEFORE)

bench-plots: .venv/ready ## draw the README's pictures from the newest run of bench-peers
	@$(PY) -m benchmarks.plots

lock: .venv/pyvenv.cfg ## lock the newest versions of what pyproject.toml asks for
	@$(PIP) uv && UV_CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m uv pip compile --quiet --system-certs --upgrade \
	  --universal --python-version 3.11 --generate-hashes --extra embedded --group dev pyproject.toml \
	  --output-file requirements-dev.lock

clean: ## remove the virtual environment and all caches
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist benchmarks/peers/.envs
	@find pgqueue tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +

.venv/ready: .venv/pyvenv.cfg pyproject.toml requirements-dev.lock
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation --editable . && touch $@

.venv/pyvenv.cfg:
	@python=$$($(FIND_PYTHON)); \
	  test "$$python" || { echo "Python 3.11 or later is needed; found: $$(python3 --version 2>&1)" >&2; exit 1; }; \
	  echo "making .venv with $$($$python --version) ..."; $(MAKE_VENV) \
	  || { echo "$$python has no pip: install it (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; }

.DELETE_ON_ERROR:
