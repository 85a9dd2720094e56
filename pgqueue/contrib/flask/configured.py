"""What a Flask application's configuration says to pgqueue."""

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from flask import Flask

from pgqueue.address import libpq
from pgqueue.config import Config, environment
from pgqueue.errors import ConfigError

URI = "SQLALCHEMY_DATABASE_URI"
SETTINGS = {"PGQUEUE_" + field.name.upper(): field.name for field in dataclasses.fields(Config) if field.name != "app"}


class Configured:
    """Asked at each use, as tests change the configuration of an application that is there already."""

    def __init__(self, flask_app: Flask) -> None:
        self._config = flask_app.config
        self._given: list[Any] = []
        self._settings: Mapping[str, Any] = {}

    def settings(self) -> Mapping[str, Any]:
        """Arguments of App: PGQUEUE_DSN, PGQUEUE_SCHEMA and so on; without the first, the database of Flask-SQLAlchemy."""
        given = [self._config.get(name) for name in (*SETTINGS, URI)]
        if given != self._given:
            *own, uri = given
            settings = {SETTINGS[name]: value for name, value in zip(SETTINGS, own, strict=True) if value is not None}
            if uri is not None and "dsn" not in settings and environment("PGQUEUE_DSN") is None:
                settings["dsn"] = libpq(_text(uri), source=f"{URI} in Flask's configuration")
            self._settings, self._given = settings, given
        return self._settings

    def transaction(self) -> None:
        """None is known: Flask has no transactions. Those of `db.session` are given as conn=."""

    def check(self) -> None:
        """A connection of ours may always be used."""

    def check_names(self) -> None:
        """Raises ConfigError for a PGQUEUE_ name that means nothing. Once, as an application is prepared: not for each defer."""
        for name in self._config:
            if name.startswith("PGQUEUE_") and name not in SETTINGS:
                close = get_close_matches(name, SETTINGS, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(SETTINGS)}"
                raise ConfigError(f"Flask's configuration sets {name}, which is not a setting of pgqueue; {hint}")


def _text(uri: Any) -> str:
    """SQLAlchemy's URL objects hide the password unless they are asked."""
    render = getattr(uri, "render_as_string", None)
    return str(uri) if render is None else str(render(hide_password=False))
