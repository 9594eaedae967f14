"""streamer addon: what the container of the Home Assistant add-on runs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.errors import SourceError

if TYPE_CHECKING:
    from streamer.home_assistant.addon import Broker, Options

ATTEMPTS, PAUSE_S = 24, 5.0
"""the broker's add-on may start together with this one, and needs some seconds"""


def addon(
    data: Annotated[Path, typer.Option(help="Where options.json is.", metavar="DIR")] = Path("/data"),
    own: Annotated[Path, typer.Option(help="Where the user's files are.", metavar="DIR")] = Path("/config"),
    supervisor: Annotated[str, typer.Option(help="Host of the supervisor.", hidden=True)] = "supervisor",
) -> None:
    """Run as an add-on of Home Assistant: options and broker come from its supervisor.

    Example: streamer addon
    """
    from streamer.home_assistant.addon import read_options, write_configuration  # noqa: PLC0415  # only here

    options = read_options(data / "options.json")
    path = write_configuration(options, _broker(options, supervisor), data, own)
    # In its place, so that the engine's signals reach it.
    os.execv(sys.executable, [sys.executable, "-m", "streamer", "run", "--config", str(path)])  # noqa: S606


def register(app: typer.Typer) -> None:
    app.command()(addon)


def _broker(options: Options, supervisor: str) -> Broker:
    from streamer.home_assistant.addon import Broker, supervisors_broker  # noqa: PLC0415  # only here

    if options.broker_host:
        return Broker(
            host=options.broker_host,
            port=options.broker_port,
            username=options.broker_username,
            password=options.broker_password,
        )
    token = os.environ.get("SUPERVISOR_TOKEN", "")
    for _ in range(ATTEMPTS - 1):
        try:
            return supervisors_broker(token, supervisor)
        except SourceError as error:
            typer.echo(f"{error}; asking again", err=True)
            time.sleep(PAUSE_S)
    return supervisors_broker(token, supervisor)
