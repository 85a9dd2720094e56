"""Django: `INSTALLED_APPS = [..., "pgqueue.contrib.django"]`. The default App then uses the project's own database.

`TASKS = {"default": {"BACKEND": "pgqueue.contrib.django.Backend"}}` has Django's own Tasks run by pgqueue's workers.
`event_stream(request, ...)` is the answer of a view that a browser follows live.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pgqueue.contrib.django.live import event_stream as event_stream


def __getattr__(name: str) -> Any:
    """What is imported when it is asked for: Django imports this package before its apps are there."""
    if name == "Backend":
        from pgqueue.contrib.django.backend import Backend

        return Backend
    if name == "event_stream":
        from pgqueue.contrib.django.live import event_stream

        return event_stream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
