"""Django's Tasks where they are enqueued: see the suite."""

from tests.django.projects import suite


def test_the_suite_of_the_backend(server_dsn: str) -> None:
    suite(server_dsn, "backend")
