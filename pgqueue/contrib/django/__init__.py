"""Django: `INSTALLED_APPS = [..., "pgqueue.contrib.django"]`. The default App then uses the project's own database.

`TASKS = {"default": {"BACKEND": "pgqueue.contrib.django.Backend"}}` has Django's own Tasks run by pgqueue's workers.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """The backend, imported when TASKS names it: Django imports this package before its apps are there."""
    if name == "Backend":
        from pgqueue.contrib.django.backend import Backend

        return Backend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
