"""Tasks of Django, and one of pgqueue's own."""

import asyncio
from typing import TYPE_CHECKING, Any

import django
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import connection

import pgqueue
from tests.django.website.shop.errors import SoldOut

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task(queue_name="mail", priority=7)
def send(to: str, password: str = "") -> str:
    return to


@task
async def slowly(name: str) -> str:
    await asyncio.sleep(0)
    return await sync_to_async(upper)(name)


def upper(name: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("select upper(%s)", [name])
        return str(cursor.fetchone()[0])


@task(takes_context=True)
def twice(context: Any, name: str) -> dict[str, Any]:
    if context.attempt == 1:
        raise SoldOut(f"no {name}\nat all")
    return {
        "attempt": context.attempt,
        "status": context.task_result.status,
        "errors": [error.exception_class_path for error in context.task_result.errors],
    }


@task(takes_context=True)
def context_of_sync(context: Any) -> list[Any]:
    return [context.attempt, context.task_result.id, context.task_result.status]


@task(takes_context=True)
async def context_of(context: Any) -> list[Any]:
    return [context.attempt, context.task_result.id, context.task_result.status]


@task(backend="anywhere", queue_name="nowhere else")
def fails(how: str) -> None:
    if how == "validation":
        raise ValidationError("not valid")
    if how == "effect":
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise SoldOut("all gone") from error
    if how == "builtin":
        raise ValueError
    if how == "cancel":
        raise pgqueue.Cancel("not needed any longer")


@task
def session() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        return int(cursor.fetchone()[0])


seen: list[int] = []


@task
def again_later() -> int:
    seen.append(1)
    if len(seen) == 1:
        raise pgqueue.Snooze(0)
    return len(seen)


@task
def no_json() -> object:
    return object()


@task
def plain(when: str, items: list[str]) -> list[Any]:
    return [when, items]


@pgqueue.task
def native(x: int) -> int:
    return x + 1
