"""A delivery: what the built-in task does for an event and an endpoint.

| the endpoint says | the delivery |
|---|---|
| 2xx | has succeeded |
| 410 | is cancelled, and the endpoint is disabled |
| 429 with Retry-After | runs again then; that costs no attempt, for the endpoint is alive |
| 503 with Retry-After | has failed, and runs again then |
| 408, 425, 429, 5xx, nothing | has failed, and runs again after the policy's wait |
| 3xx, other 4xx | is dead: the same would be said of the same again |
"""

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from pgqueue.context import current_job
from pgqueue.errors import WebhookFailed, WebhookRefused
from pgqueue.events.event import Event
from pgqueue.queries.webhooks import FoundEndpoint
from pgqueue.retry import Cancel, Retry, Snooze
from pgqueue.webhooks.endpoint import NAMED_BY, disable
from pgqueue.webhooks.post import Answer, post
from pgqueue.webhooks.signature import signed_headers
from pgqueue.webhooks.website import Website

if TYPE_CHECKING:
    from pgqueue.app import App

DELIVERY_S = 15.0
"""For one delivery with everything: an endpoint notes it and works later, as the standard asks."""
LONGEST_WAIT_S = 3_600.0  # that an endpoint may ask for
PATIENT_S = 3 * 86_400.0  # of an event's age: then one that is always told to come later begins to cost attempts
LATER = {408, 425, 429}


async def delivered(app: "App", event: Event[Any]) -> int:
    """Deliver to the endpoint that the running job's headers name; the status of its answer, or what becomes of the job."""
    name = current_job().headers.get(NAMED_BY)
    found = await asyncio.to_thread(app.run, app.queries.find_webhook(str(name)))
    if not found:
        raise Cancel(f"there is no webhook '{name}' any longer")
    (endpoint,) = found
    if endpoint.disabled:
        raise Cancel(f"the webhook '{name}' is disabled: {endpoint.why}")
    answer = await _sent(endpoint, event)
    if answer.status == 410:
        why = f"{_site(endpoint)} answered 410 Gone"
        await asyncio.to_thread(app.run, disable(app.queries, str(name), why=why))
        raise Cancel(f"the webhook '{name}' is disabled: {why}")
    return judged(answer, site=_site(endpoint), age_s=time.time() - event.at.timestamp())


async def _sent(endpoint: FoundEndpoint, event: Event[Any]) -> Answer:
    body = json.dumps(
        {"type": event.type, "timestamp": event.at.isoformat(), "data": event.payload},
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()
    # By this machine's clock: a receiver compares it with its own, and an attempt may be days after the event.
    headers = signed_headers(event.id, body, secrets=endpoint.secrets, at_s=int(time.time()))
    website = Website.read(endpoint.url, allow_private=endpoint.allow_private)
    return await post(website, body, headers, allow_private=endpoint.allow_private, within_s=DELIVERY_S)


def judged(answer: Answer, *, site: str, age_s: float) -> int:
    """The status of a success; raises what becomes of any other answer."""
    status, wait_s = answer.status, answer.retry_after_s
    if 200 <= status < 300:
        return status
    said = f"{site} answered {status}{f': {answer.text}' if answer.text else ''}"
    if wait_s is not None:
        wait_s = min(max(wait_s, 1.0), LONGEST_WAIT_S)
        if status == 429 and age_s < PATIENT_S:
            raise Snooze(wait_s)
        if status in (429, 503):
            raise Retry(said, delay=wait_s)
    if status in LATER or status >= 500:
        raise WebhookFailed(said)
    raise WebhookRefused(said)


def _site(endpoint: FoundEndpoint) -> str:
    return Website.read(endpoint.url, allow_private=True).site
