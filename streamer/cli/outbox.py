"""streamer outbox: what waits for the broker, and what it did not want."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from streamer.config.schema import load_config
from streamer.store.directory import state_directory
from streamer.store.outbox import Contents, peek

SHOWN = 20
"""refused events"""


def outbox(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The configuration, where it sets state_dir.", metavar="FILE"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON, with all that was refused.")
    ] = False,
) -> None:
    """Show the events that wait for the broker, and those that it refused. Harmless while the daemon runs.

    Example: streamer outbox --config configs/home.yaml
    """
    directory = state_directory(None if config is None else load_config(config).state_dir)
    contents = peek(directory)
    if as_json:
        typer.echo(json.dumps({"directory": str(directory), **asdict(contents)}))
        return
    typer.echo(f"outbox    {directory}")
    typer.echo(f"waiting   {_waiting(contents)}")
    typer.echo(f"refused   {len(contents.refused)}")
    for one in contents.refused[:SHOWN]:
        message = one.message
        where = f"{message['source']}/event/{message['phase']}"
        typer.echo(f"          {message['emitted_at']}  {where}  {message['sound']}: {one.reason}")
    if len(contents.refused) > SHOWN:
        typer.echo(f"          and {len(contents.refused) - SHOWN} older ones: see --json")
    for name in contents.set_aside:
        typer.echo(f"damaged   {name}: set aside; delete it when nobody wants to look into it")


def _waiting(contents: Contents) -> str:
    if contents.oldest_s is None:
        return "nothing: the broker has it all"
    age = timedelta(seconds=round(contents.oldest_s))
    return f"{contents.depth} events, {contents.size / 1024:.0f} KiB, the oldest since {age}"


def register(app: typer.Typer) -> None:
    app.command()(outbox)
