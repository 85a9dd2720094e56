"""What `manage.py check` says of a project that uses pgqueue."""

from typing import Any

from django.core.checks import CheckMessage, Error

import pgqueue
from pgqueue.errors import ConfigError


def check_settings(**_: Any) -> list[CheckMessage]:
    """pgqueue.E001: the settings cannot be used."""
    try:
        assert pgqueue.app.config
    except ConfigError as error:
        return [Error(str(error), id="pgqueue.E001")]
    return []
