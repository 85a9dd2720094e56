"""The App of a Flask program, as a worker imports it: `flask pgqueue worker` names this module."""

from flask import Flask, current_app, has_app_context
from flask.cli import NoAppException, ScriptInfo

from pgqueue.config import environment
from pgqueue.contrib.flask.extension import extension_of
from pgqueue.errors import ConfigError


def _flask_app() -> Flask:
    """That of `flask pgqueue tasks`, which is there already, else the one that FLASK_APP names."""
    if has_app_context():
        return current_app._get_current_object()  # type: ignore[attr-defined,no-any-return] # a proxy, as Flask documents it
    try:
        return ScriptInfo(app_import_path=environment("FLASK_APP")).load_app()
    except NoAppException as error:
        raise ConfigError(
            f"which application? Start the worker by `flask --app MODULE pgqueue worker`: {error}"
        ) from None


flask_app = _flask_app()
app = extension_of(flask_app).app
if not app.tasks:
    raise ConfigError(
        f"nothing that the Flask application {flask_app.import_name} imports has a task: write @task, and import its module "
        "where the application is made"
    )
