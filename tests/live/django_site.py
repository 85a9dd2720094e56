"""The same streams as Django serves them, under ASGI and WSGI."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from pgqueue.config import environment

settings.configure(
    SECRET_KEY="x",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["pgqueue.contrib.django"],
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"] if environment("SITE_GZIP") else [],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            **{name: environment(f"SITE_DB_{name}") or "" for name in ("NAME", "USER", "HOST", "PORT", "PASSWORD")},
        }
    },
)
asgi = get_asgi_application()
wsgi = get_wsgi_application()

from pgqueue.contrib.django import event_stream  # noqa: E402


def orders(request: HttpRequest) -> StreamingHttpResponse:
    return event_stream(request, types=["order.*"], beat_s=0.5)


async def tenant(request: HttpRequest, tenant: int) -> StreamingHttpResponse:
    return event_stream(request, channels=[f"tenant:{tenant}"], beat_s=0.5)


urlpatterns = [path("orders", orders), path("tenants/<int:tenant>", tenant)]
