"""Commands about webhooks: endpoints that get a signed POST for each event."""

from datetime import timedelta
from typing import Annotated, Any

import typer

from pgqueue import db
from pgqueue.cli.options import CHANGE, AppName, Json, chosen_app, moment
from pgqueue.cli.output import say, say_json, say_table
from pgqueue.errors import InvalidOption
from pgqueue.queries import Steps
from pgqueue.webhooks import endpoint as endpoints
from pgqueue.webhooks.endpoint import Endpoint
from pgqueue.webhooks.signature import FROM_VARIABLE, check_secret, new_secret

group = typer.Typer(help="Send a signed POST for each event to endpoints.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME")]
Secret = Annotated[
    str | None,
    typer.Option("--secret", help="env:NAME, a variable of the workers. Without it a new one is printed once."),
]


@group.command()
def add(
    url: Annotated[str, typer.Argument(metavar="URL")],
    types: Annotated[str, typer.Option("--types", help="Types of events, separated by commas: user.*,order.paid")],
    name: Annotated[str | None, typer.Option("--name", help="Of the endpoint; the default is its host.")] = None,
    secret: Secret = None,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Private and local addresses too, and http://.")
    ] = False,
    app: AppName = None,
) -> None:
    """Add an endpoint, which gets the events from now on."""
    made = new_secret() if secret is None else _variable(secret)
    wanted = [each.strip() for each in types.split(",")]
    endpoint = Endpoint.make(url, wanted, secret=made, name=name, allow_private=allow_private)
    _run(app, lambda queries: endpoints.add(queries, endpoint))
    say(f"added the webhook {endpoint.name}; its deliveries are jobs in the queue {endpoints.QUEUE}")
    if secret is None:
        say(f"its secret, which is not shown again: {made}")


@group.command(name="list")
def list_(app: AppName = None, as_json: Json = False) -> None:
    """List the endpoints."""
    chosen = chosen_app(app)
    found = chosen.run(chosen.queries.webhooks())
    if as_json:
        say_json([each._asdict() for each in found])
        return
    say_table(
        ["NAME", "SITE", "TYPES", "STATE"],
        (
            [each.name, each.site, ", ".join(each.types), f"disabled: {each.why}" if each.disabled_at else "enabled"]
            for each in found
        ),
        empty="no webhooks",
    )


@group.command()
def rotate(
    name: Name,
    secret: Secret = None,
    keep: Annotated[str, typer.Option("--keep", help="How long the last secret signs too: 90s, 2h, 1d.")] = "1d",
    app: AppName = None,
) -> None:
    """Sign by a new secret, and for a while by the last one too."""
    made = new_secret() if secret is None else _variable(secret)
    kept = moment("--keep", keep)
    if not isinstance(kept, timedelta):
        raise InvalidOption(f"--keep {keep} is not a duration: write 90s, 2h or 1d")
    _run(app, lambda queries: endpoints.rotate(queries, name, secret=made, keep_s=kept.total_seconds()))
    say(f"the webhook {name} signs by its new secret, and until {keep} from now by the last one too")
    if secret is None:
        say(f"its secret, which is not shown again: {made}")


@group.command()
def disable(name: Name, app: AppName = None) -> None:
    """Send nothing more to an endpoint. Its events wait."""
    done = _run(app, lambda queries: endpoints.disable(queries, name, why="by a command"))
    say(f"the webhook {name} is disabled" if done else f"the webhook {name} was disabled already")


@group.command()
def enable(name: Name, app: AppName = None) -> None:
    """Send to a disabled endpoint again, first what has waited."""
    done = _run(app, lambda queries: endpoints.enable(queries, name))
    say(f"the webhook {name} is enabled" if done else f"the webhook {name} was not disabled")


@group.command()
def drop(name: Name, app: AppName = None) -> None:
    """Forget an endpoint. Deliveries that are queued are cancelled when they run."""
    _run(app, lambda queries: endpoints.drop(queries, name))
    say(f"dropped the webhook {name}")


def _variable(secret: str) -> str:
    """Not the secret itself: it would be in the shell's history, and in what `ps` shows to everybody."""
    if not FROM_VARIABLE.fullmatch(secret):
        raise InvalidOption("--secret takes env:NAME, a variable of the workers: what is typed here others can read")
    return check_secret("--secret", secret)


def _run(name: str | None, steps: Any) -> Any:
    """In one transaction."""
    app = chosen_app(name)
    made: Steps[Any] = steps(app.queries)
    with db.connect(app.dsn) as conn, conn.transaction():
        return db.run(conn, made)


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.add_typer(group, name="webhook", rich_help_panel=CHANGE)
