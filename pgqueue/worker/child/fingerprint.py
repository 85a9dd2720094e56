"""Which code a worker runs, as one word: equal for workers that take the same calls of the same tasks."""

import hashlib

import pgqueue
from pgqueue.app import App


def fingerprint(app: App) -> str:
    """Over the names and signatures of its tasks, and our own version, by which signatures are read."""
    lines = sorted(f"{name}{task.codec.takes_text}" for name, task in app.tasks.items())
    return hashlib.sha256("\n".join([pgqueue.__version__, *lines]).encode()).hexdigest()[:16]
