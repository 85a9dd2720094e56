"""Commands about live channels: print what comes in, send a notification."""

import json
from typing import Annotated

import typer

from pgqueue.channels.items import Gap, Item, Notification
from pgqueue.cli.options import CHANGE, LOOK, AppName, Json, chosen_app
from pgqueue.cli.output import LONGEST, note, say
from pgqueue.errors import ConfigError
from pgqueue.terminal import one_line

ChannelName = Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's name; upper and lower case differ.")]
ChannelNames = Annotated[list[str], typer.Argument(metavar="CHANNEL...", help="Names; upper and lower case differ.")]


def listen(channels: ChannelNames, app: AppName = None, as_json: Json = False) -> None:
    """Print what comes in on live channels, until Ctrl-C. With --json, one object on each line."""
    for item in chosen_app(app).listen(*channels):
        if as_json:
            say(json.dumps(_plain(item)))
        elif isinstance(item, Notification):
            say(f"{one_line(item.channel, at_most=LONGEST)}  {one_line(item.payload, at_most=LONGEST)}")
        else:
            note(_sentence(item, len(channels)))


def _plain(item: Item) -> dict[str, object]:
    kind = {"item": type(item).__name__.lower()}
    match item:
        case Notification():
            return {**kind, "channel": item.channel, "payload": item.payload}
        case Gap():
            return {**kind, "channel": item.channel, "why": item.why}
        case _:
            return {**kind}


def _sentence(item: Item, count: int) -> str:
    if isinstance(item, Gap):
        return f"notifications may be missing{f' on {item.channel}' if item.channel else ''}: {item.why}"
    return f"listening to {count} channel{'s' if count > 1 else ''}; press Ctrl-C to end"


def notify(
    channel: ChannelName,
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="A JSON value, such as '{\"id\": 7}'.")],
    app: AppName = None,
) -> None:
    """Send a notification to the programs that listen to a live channel now."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"PAYLOAD is not valid JSON ({error}); write it as in '{{\"id\": 7}}', and a text as in '\"refresh\"'"
        ) from None
    chosen_app(app).notify(channel, value)
    say(f"sent to the programs that listen to {one_line(channel, at_most=LONGEST)}")


def add_to(cli: typer.Typer) -> None:
    """Register the commands of this module."""
    cli.command(rich_help_panel=LOOK)(listen)
    cli.command(rich_help_panel=CHANGE)(notify)
