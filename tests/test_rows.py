"""Every bad input (b), security rule (s) and fault (f) that we know of has a test that carries its number in its name or id."""

import re
from pathlib import Path

HERE = Path(__file__).parent

BAD_INPUTS = {
    "b1": "NUL in a string", "b2": "NUL in a key", "b3": "NUL in a queue, a unique key, a task name", "b4": "json columns",
    "b5": "NaN and infinity", "b6": "large floats", "b7": "minus zero", "b8": "ints beyond 64 bits",
    "b9": "ints of more than 4,300 digits", "b12": "5,000 levels", "b13": "100,000 levels, raw", "b14": "lone surrogates",
    "b15": "every kind of text", "b16": "client_encoding from outside", "b17": "bytes that are no UTF-8",
    "b18": "values that JSON does not know", "b19": "tuples", "b20": "keys that are no strings", "b21": "equal keys from SQL",
    "b22": "cycles", "b23": "large arguments", "b24": "a million jobs in one call", "b25": "the payload of NOTIFY",
    "b26": "names of channels", "b27": "names of queues", "b28": "names of schemas", "b29": "naive datetimes",
    "b30": "daylight saving", "b31": "times that nobody can read", "b32": "odd delays", "b33": "priority and max_attempts",
    "b34": "back-off that overflows", "b35": "unknown tasks", "b36": "changed signatures", "b38": "monstrous exceptions",
    "b39": "hostile error texts", "b40": "SystemExit and its like", "b41": "RecursionError and MemoryError",
    "b42": "what cannot be pickled", "b43": "results that cannot be stored", "b44": "coroutines, generators, files as results",
    "b45": "async and sync mixed up", "b46": "names of tasks", "b49": "a task that ends its atomic transaction",
    "b50": "schedules that cannot be", "b51": "long unique keys", "b52": "wrong connection strings",
    "b53": "schemas that do not fit",
    "b54": "options of the worker that cannot work", "b55": "rows edited by hand",
}  # fmt: skip
SECURITY = {
    "s1": "roles", "s2": "functions are not everybody's", "s3": "functions with their owner's rights",
    "s4": "the owner of functions", "s5": "spoofed bells, stolen locks", "s8": "no pickle", "s9": "only registered tasks",
    "s10": "stored names are text", "s11": "every value a parameter", "s13": "terminals", "s14": "log records",
    "s16": "secrets", "s17": "passwords", "s19": "the way to the server", "s20": "search paths", "s21": "sizes",
    "s22": "stats stay cheap", "s23": "filters are no patterns", "s29": "files", "s30": "health", "s31": "root",
    "s32": "who did what", "s33": "purge", "s35": "who may migrate", "s36": "fuzz",
}  # fmt: skip
FAULTS = {
    "f1": "a child is killed", "f2": "a supervisor is killed", "f3": "both at once", "f4": "a worker is frozen",
    "f7": "out of memory", "f8": "a segmentation fault, an abort", "f9": "poison among good jobs",
    "f11": "an endless loop", "f12": "a call that holds the interpreter", "f13": "a deploy",
    "f14": "TERM at any moment", "f15": "other signals, and a second one", "f16": "an import that hangs",
    "f17": "an import that fails", "f19": "threads left behind", "f20": "no file descriptors",
    "f21": "sessions are ended", "f22": "statements are cancelled", "f23": "a fast restart",
    "f24": "a crash of the server", "f25": "two minutes without a database",
    "f26": "fail-over to a synchronous standby", "f27": "to one that lags", "f28": "a demoted primary",
    "f29": "a token is issued twice", "f30": "a full disk", "f31": "a full disk of the log", "f32": "slow flushes",
    "f33": "no connections left", "f34": "tasks hold all connections", "f35": "a pool outlives an outage",
    "f36": "deadlocks on unique keys", "f37": "strict callers", "f38": "a lock on the jobs", "f40": "an old snapshot",
    "f41": "the queue of notifications fills up", "f42": "no notifications", "f43": "a library vanishes",
    "f44": "counters at their end", "f45": "a transaction pooler", "f46": "a host vanishes",
    "f47": "answers are lost", "f48": "a router forgets", "f50": "a slow and lossy network",
    "f51": "an address changes", "f52": "a worker's clock is wrong", "f53": "the database's clock is set",
    "f54": "workers are killed at the tick", "f55": "ten ticks without a worker", "f56": "zones, and clocks that move",
    "f57": "two versions at once", "f58": "a migration under load", "f59": "a million jobs at once",
    "f60": "a machine that slept", "f61": "a dispatcher ends in a step", "f62": "a relay is killed in a step",
    "f63": "a relay oversleeps its lease", "f64": "a bus dies in mid send", "f65": "a listener loses its session",
    "f66": "one stands still in the midst of a tick", "f67": "a migration while events flow",
}  # fmt: skip
SECURITY_LATER = {
    "s6": "tenants", "s7": "tenants", "s15": "there is no CSV yet", "s18": "encryption", "s24": "no dashboard in a browser yet",
    "s25": "the same", "s26": "the same", "s27": "the same", "s28": "the same", "s34": "how it is packaged and released",
}  # fmt: skip


def numbers() -> set[str]:
    """Those at the beginning of the names of tests, `test_b1_b2_...`, and of the ids of their cases, `id="b1-..."`."""
    found: set[str] = set()
    for path in HERE.rglob("test_*.py"):
        for run in re.findall(r'(?:def test_|\bid=")((?:[bsf]\d+[_-])+)', path.read_text()):
            found.update(re.findall(r"[bsf]\d+", run))
    return found


def test_every_row_has_a_test() -> None:
    found = numbers()
    assert [row for row in (*BAD_INPUTS, *SECURITY, *FAULTS) if row not in found] == []


def test_no_row_is_forgotten() -> None:
    gaps = {10, 11, 37, 47, 48}  # were never given
    assert BAD_INPUTS.keys() == {f"b{n}" for n in range(1, 56) if n not in gaps}


def test_no_rule_is_forgotten() -> None:
    assert SECURITY.keys() | SECURITY_LATER.keys() == {f"s{n}" for n in range(1, 37) if n != 12}  # was never given


def test_no_fault_is_forgotten() -> None:
    gaps = {5, 6, 10, 18, 39, 49}  # were never given
    assert FAULTS.keys() == {f"f{n}" for n in range(1, 68) if n not in gaps}


def test_what_comes_later_has_not_come_yet() -> None:
    assert SECURITY_LATER.keys() & numbers() == set()
