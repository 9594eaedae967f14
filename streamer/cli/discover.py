"""streamer discover: what is heard again and again, and has no name yet."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.events import SourceOption
from streamer.cli.replay import JsonOption, LastOption, RulesOption
from streamer.cli.times import duration, local
from streamer.config.schema import load_config
from streamer.core.times import utc
from streamer.store.directory import state_directory

if TYPE_CHECKING:
    from streamer.run.discover import Found
    from streamer.teaching.recurring import Cluster

_LATEST = 3
"""times that are shown"""
_ROUND_H = 1 / 6


def discover(
    config: RulesOption,
    last: LastOption = "7d",
    source: SourceOption = None,
    db: Annotated[
        float, typer.Option("--db", min=3.0, max=100.0, help="How loud, in decibels above the background.")
    ] = 12.0,
    times: Annotated[int, typer.Option("--times", min=2, help="How often, at least.")] = 3,
    ignore: Annotated[
        str | None, typer.Option("--ignore", metavar="ID", help="Leave this one out from now on.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List loud sounds that came again and again, and that no sound of the configuration explains.

    From the levels and scores that the daemon has kept; no audio is. What is found is named in the
    configuration by its labels, is taught from recordings (`streamer teach`), or is ignored.

    Example: streamer discover --last 7d --config home.yaml
    """
    from streamer.run import discover as discovering  # noqa: PLC0415  # loads numpy

    settings = load_config(config)
    directory, until = state_directory(settings.state_dir), time.time()
    found = discovering.discover(
        directory, settings, until - duration(last), until, loud_db=db, fewest=times, source=source
    )
    if ignore is not None:
        discovering.ignore(directory, found, ignore)
        found = replace(
            found, found=[one for one in found.found if one.id != ignore], n_ignored=found.n_ignored + 1
        )
    if as_json:
        values = {
            "listened_s": round(found.coverage.listened_s, 3),
            "stretches": found.n_stretches,
            "ignored": found.n_ignored,
            "sounds": [_values(one) for one in found.found],
        }
        typer.echo(json.dumps(values, ensure_ascii=False))
        return
    if ignore is not None:
        typer.echo(f"{ignore}: is left out from now on")
        return
    hours = found.coverage.listened_s / 3600
    typer.echo(
        f"{hours:.1f} hours of listening: {found.n_stretches} loud stretches that no sound explains,"
        f" sounds that recur: {len(found.found)}" + (f", {found.n_ignored} ignored" * bool(found.n_ignored))
    )
    for one in found.found:
        latest = ", ".join(local(stretch.begin) for stretch in one.cluster.stretches[-_LATEST:])
        typer.echo(f"{one.id}  {one.cluster.source:<16}{_words(one)}\n{'':8}last at {latest}")


def _words(one: Found) -> str:
    """Such as: about 2 s, 9 times, mostly 17:00 to 17:10, most like Beep."""
    cluster = one.cluster
    seconds = f"{cluster.seconds:.1f}" if cluster.seconds < 2 else f"{cluster.seconds:.0f}"
    names = " or ".join(one.most_like)
    like = f"most like {names}" if names else "like nothing that the model knows"
    return f"about {seconds} s, {len(cluster.stretches)} times, {_when(cluster)}, {like}"


def _when(cluster: Cluster) -> str:
    span = cluster.time_of_day()
    if span is None:
        return "at any time of the day"
    begin, end = span[0] // _ROUND_H * _ROUND_H, -(-span[1] // _ROUND_H) * _ROUND_H
    return f"mostly {_clock(begin)} to {_clock(end)}"


def _clock(hours: float) -> str:
    return datetime.fromtimestamp(round(3600 * hours), UTC).strftime("%H:%M")


def _values(one: Found) -> dict[str, object]:
    span = one.cluster.time_of_day()
    return {
        "id": one.id,
        "source": one.cluster.source,
        "seconds": round(one.cluster.seconds, 2),
        "times": [utc(stretch.begin) for stretch in one.cluster.stretches],
        "hours": None if span is None else [round(span[0], 2), round(span[1], 2)],
        "most_like": one.most_like,
        "labels": dict(one.labels[:10]),
    }


def register(app: typer.Typer) -> None:
    app.command()(discover)
