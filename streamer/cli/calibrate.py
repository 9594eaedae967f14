"""streamer calibrate: thresholds for the room, by false alarms a day."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.events import SourceOption
from streamer.cli.replay import JsonOption, LastOption, RulesOption
from streamer.cli.times import duration
from streamer.config.schema import load_config
from streamer.store.directory import state_directory

if TYPE_CHECKING:
    from streamer.run.calibrate import Proposal


def calibrate(
    config: RulesOption,
    last: LastOption = "7d",
    per_day: Annotated[
        float, typer.Option("--per-day", min=0.0, help="False alarms a day that are accepted, of each sound.")
    ] = 1.0,
    source: SourceOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Put them in force from the next start on.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say for each sound which threshold keeps to so many false alarms a day, and what it would lose.

    From the scores that the daemon has kept and from reviewed events (`streamer events review`). Where
    nothing was reviewed, each event counts as a false alarm, and no threshold is lowered.

    Example: streamer calibrate --last 7d --per-day 1 --config home.yaml
    """
    from streamer.run import calibrate as calibrating  # noqa: PLC0415  # loads numpy

    settings = load_config(config)
    directory, until = state_directory(settings.state_dir), time.time()
    proposals = calibrating.calibrate(
        directory, settings, until - duration(last), until, per_day=per_day, source=source
    )
    if as_json:
        typer.echo(json.dumps([_values(one) for one in proposals]))
    elif not proposals:
        typer.echo("no sound had an event at any threshold: nothing to calibrate")
    else:
        typer.echo(f"{'source':<16}{'sound':<24}{'now':>6}{'new':>6}  false alarms a day")
        for one in proposals:
            typer.echo(
                f"{one.source:<16}{one.sound:<24}{one.now.on:>6.2f}{one.proposed.on:>6.2f}  {_words(one)}"
            )
    if apply:
        changed = calibrating.apply(directory, settings, proposals)
        typer.echo(f"{changed} thresholds are in force from the next start on", err=as_json)


def _words(one: Proposal) -> str:
    estimate = one.found.false_alarms_a_day(one.proposed)
    if estimate is None:
        events = one.found.events_a_day(one.proposed)
        return f"{events:.1f} at most: none of its events was reviewed"
    words = f"{estimate[0]:.1f} ({estimate[1]:.1f} to {estimate[2]:.1f})"
    return f"{words}; {one.lost} of {one.found.n_right} right ones would be lost" if one.lost else words


def _values(one: Proposal) -> dict[str, object]:
    estimate = one.found.false_alarms_a_day(one.proposed)
    return {
        "source": one.source,
        "sound": one.sound,
        "on": one.now.on,
        "proposed": one.proposed.on,
        "events_a_day": round(one.found.events_a_day(one.proposed), 3),
        "false_alarms_a_day": None if estimate is None else round(estimate[0], 3),
        "interval": None if estimate is None else [round(estimate[1], 3), round(estimate[2], 3)],
        "right_lost": one.lost,
    }


def register(app: typer.Typer) -> None:
    app.command()(calibrate)
