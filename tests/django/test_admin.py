"""The admin's page of jobs: see the suite."""

from tests.django.projects import suite


def test_the_suite_of_the_admin(server_dsn: str) -> None:
    suite(server_dsn, "admin")
