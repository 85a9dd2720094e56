"""The built-in task that delivers: a job for each event and endpoint, which every child knows without any user code.

What a delivery takes (HTTP, signatures) is imported with the first one: most children never make any.
"""

from typing import TYPE_CHECKING, Any

from tenacity import retry_if_not_exception_type

from pgqueue.errors import ConfigError, WebhookRefused
from pgqueue.events.event import Event
from pgqueue.webhooks.endpoint import QUEUE, WEBHOOK_TASK

if TYPE_CHECKING:
    from pgqueue.app import App

ATTEMPT_S = 60.0  # of the attempt: four times a delivery's, as the database may be slow too


def install(app: "App") -> None:
    """Have this app know the task. Raises ConfigError if one of its own has the name."""
    if WEBHOOK_TASK in app.tasks:
        raise ConfigError(f"the task name {WEBHOOK_TASK} is pgqueue's own: give yours another")

    async def deliver(event: Event[Any]) -> dict[str, int]:
        from pgqueue.webhooks.delivery import delivered

        return {"status": await delivered(app, event)}

    app.task(name=WEBHOOK_TASK, queue=QUEUE, timeout=ATTEMPT_S, retry=retry_if_not_exception_type(WebhookRefused))(
        deliver
    )
