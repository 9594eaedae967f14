"""streamer store: what the event log holds and what waits in it, whether it is whole, and a copy of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from streamer.cli.events import ConfigOption
from streamer.config.schema import load_config
from streamer.store.directory import state_directory
from streamer.store.query import Contents, back_up_store, check_store, reading
from streamer.store.score_files import sizes

SHOWN = 20
"""refused messages"""

app = typer.Typer(no_args_is_help=True, help="The event log: what it holds, whether it is whole, a copy.")


@app.command(epilog="Example: streamer store show --config configs/home.yaml")
def show(
    config: ConfigOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One line of JSON, with all that was refused.")
    ] = False,
) -> None:
    """Show what is kept, what waits for the broker, and what it refused. Harmless while the daemon runs."""
    directory = _directory(config)
    with reading(directory) as reader:
        contents = reader.contents()
    scores = sizes(directory)
    if as_json:
        typer.echo(json.dumps({"directory": str(directory), **asdict(contents), "scores_bytes": scores}))
        return
    typer.echo(f"{'store':<10}{directory}, {contents.bytes / (1 << 20):.1f} MiB")
    typer.echo(f"{'events':<10}{_span(contents)}")
    for source, size in scores.items():
        typer.echo(f"{'scores':<10}{source}, {size / (1 << 20):.1f} MiB")
    for consumer, n in contents.waiting.items():
        typer.echo(f"{consumer:<10}{_waiting(n, contents.oldest_s)}")
    typer.echo(f"{'refused':<10}{len(contents.refused)}")
    for one in contents.refused[:SHOWN]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.event.emitted_at))
        where = f"{one.event.source_id}/event/{one.event.phase}"
        typer.echo(f"{'':<10}{at}  {where}  {one.event.sound}: {one.reason}")
    if len(contents.refused) > SHOWN:
        typer.echo(f"{'':<10}and {len(contents.refused) - SHOWN} older ones: see --json")
    for name in contents.set_aside:
        typer.echo(f"{'damaged':<10}{name}: set aside; delete it when nobody wants to look into it")


@app.command(epilog="Example: streamer store check")
def check(config: ConfigOption = None) -> None:
    """Read all of the store. Exit code 0 where it is whole, 70 where it is damaged."""
    directory = _directory(config)
    check_store(directory)
    typer.echo(f"{directory}: whole")


@app.command(epilog="Example: streamer store backup /backup/events.sqlite3")
def backup(
    to: Annotated[Path, typer.Argument(help="The copy; it must not be there yet.", metavar="FILE")],
    config: ConfigOption = None,
) -> None:
    """Copy the store as it is at one moment, also while the daemon runs."""
    size = back_up_store(_directory(config), to)
    typer.echo(f"{to}: {size / (1 << 20):.1f} MiB")


def _directory(config: Path | None) -> Path:
    return state_directory(None if config is None else load_config(config).state_dir)


def _span(contents: Contents) -> str:
    if contents.first is None or contents.last is None:
        return "none yet"
    first, last = (
        time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) for at in (contents.first, contents.last)
    )
    return f"{contents.n_events}, from {first} to {last}"


def _waiting(n: int, oldest_s: float | None) -> str:
    if not n or oldest_s is None:
        return "has it all"
    return f"{n} messages wait, the oldest since {timedelta(seconds=round(oldest_s))}"
