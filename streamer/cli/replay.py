"""streamer replay, streamer curve: what other rules would have made of the past days."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from streamer.cli.events import SoundOption, SourceOption
from streamer.cli.times import duration, local
from streamer.config.schema import Config, load_config
from streamer.errors import UsageError
from streamer.store.directory import state_directory

LastOption = Annotated[str, typer.Option("--last", help="So far back: 24h, 7d.", metavar="TIME")]
RulesOption = Annotated[
    Path, typer.Option("--config", "-c", help="Which sounds, with which thresholds.", metavar="FILE")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One line of JSON.")]
SHOWN = 20
"""events of a list for people"""


def replay(
    config: RulesOption,
    last: LastOption = "7d",
    source: SourceOption = None,
    sound: SoundOption = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Try another threshold of a sound, and compare this sound alone.", metavar="SOUND=ON"
        ),
    ] = None,
    most: Annotated[
        int | None, typer.Option(help="At most so many new and gone events, the latest.", min=1, hidden=True)
    ] = None,
    progress: Annotated[
        bool, typer.Option("--progress", help="Lines of stderr: the share that is done.", hidden=True)
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which events another configuration would have made of the past: new, gone, the same, and per day.

    Decides again on the scores that the daemon has kept. Thresholds that were set by command hold here, too.

    Example: streamer replay --last 7d --config home.yaml --threshold dog_bark=0.7
    """
    from streamer.run import replay as replaying  # noqa: PLC0415  # loads numpy

    settings = load_config(config)
    until = time.time()
    found = replaying.compare(
        state_directory(settings.state_dir),
        settings,
        until - duration(last),
        until,
        source=source,
        thresholds=_thresholds(settings, threshold or []),
        progress=_print_share() if progress else lambda _: None,
    )
    if sound is not None:
        found.same = [pair for pair in found.same if pair[0].sound == sound]
        for name in ("new", "gone", "unknown"):
            setattr(found, name, [event for event in getattr(found, name) if event.sound == sound])
    if as_json:
        typer.echo(replaying.as_json(found, most=most))
        return
    coverage = found.coverage
    share = coverage.scored_s / coverage.listened_s if coverage.listened_s else 0.0
    typer.echo(
        f"{coverage.listened_s / 3600:.1f} hours of listening: {share:.0%} were scored, the rest was quiet"
    )
    if coverage.other_model_until is not None:
        when = local(coverage.other_model_until)
        typer.echo(
            f"before {when} another model, or another head of a taught sound, scored: that is left out"
        )
    typer.echo(f"{len(found.same)} the same, {len(found.new)} new, {len(found.gone)} gone")
    if found.unknown:
        typer.echo(f"{len(found.unknown)} events are of times that the log of scores does not hold")
    if days := found.per_day():
        typer.echo(f"\n{'day':<12}{'were':>6}{'same':>6}{'new':>6}{'gone':>6}")
        for day, counts in days.items():
            typer.echo(
                f"{day:<12}" + "".join(f"{counts[name]:>6}" for name in ("were", "same", "new", "gone"))
            )
    for name, events in (("new", found.new), ("gone", found.gone)):
        if events:
            typer.echo(f"\n{name}")
        for event in events[:SHOWN]:
            length = "goes on" if event.offset is None else f"{event.offset - event.onset:.1f} s"
            typer.echo(
                f"{local(event.onset)}  {event.source:<16}{event.sound:<24}{length:>9}"
                f"  {event.peak:.2f}  {event.id}"
            )
        if len(events) > SHOWN:
            typer.echo(f"and {len(events) - SHOWN} more: --json has them all")


def _thresholds(config: Config, texts: list[str]) -> dict[str, float]:
    """Of `SOUND=ON`, by sound. Raises UsageError."""
    found = {}
    for text in texts:
        sound, _, value = text.partition("=")
        if sound not in config.sounds or not config.sounds[sound].labels:
            raise UsageError(f"--threshold {text}: there is no sound {sound!r} that has one")
        try:
            on = float(value)
        except ValueError:
            on = 0.0
        if not 0 < on < 1:
            raise UsageError(
                f"--threshold {text}: a threshold is a number between 0 and 1, as in {sound}=0.7"
            )
        found[sound] = on
    return found


def _print_share() -> Callable[[float], None]:
    """Prints a line at each whole percent."""
    printed = -1

    def share(done: float) -> None:
        nonlocal printed
        if (percent := int(100 * done)) > printed:
            printed = percent
            typer.echo(f"{percent} %", err=True)

    return share


def curve(
    sound: Annotated[str, typer.Argument(help="One of the configuration's sounds.", metavar="SOUND")],
    config: RulesOption,
    last: LastOption = "7d",
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each threshold how many events a day a sound would have had, and how many false alarms.

    False alarms are estimated from reviewed events (`streamer events review`), with a 95 % interval.

    Example: streamer curve dog_bark --last 7d --config home.yaml
    """
    from streamer.run.curve import curve as replay_at_thresholds  # noqa: PLC0415  # loads numpy

    settings = load_config(config)
    until = time.time()
    found = replay_at_thresholds(
        state_directory(settings.state_dir), settings, sound, until - duration(last), until, source=source
    )
    if as_json:
        rows = []
        for point in found.points:
            false = found.false_alarms_a_day(point)
            rows.append(
                {
                    "on": point.on,
                    "events_a_day": round(found.events_a_day(point), 3),
                    "reviewed": point.n_reviewed,
                    "false_alarms_a_day": None if false is None else round(false[0], 3),
                    "interval": None if false is None else [round(false[1], 3), round(false[2], 3)],
                    "right_kept": point.n_right_kept,
                }
            )
        typer.echo(
            json.dumps({"sound": sound, "days": round(found.days, 3), "right": found.n_right, "points": rows})
        )
        return
    typer.echo(f"{sound} over {found.days:.1f} days of listening")
    if not any(point.n_reviewed for point in found.points):
        typer.echo("none of its events was reviewed: how many are false is not known")
    typer.echo(
        f"{'on':>5}{'events a day':>14}{'reviewed':>10}{'false alarms a day':>24}{'right ones kept':>18}"
    )
    for point in found.points:
        false = found.false_alarms_a_day(point)
        alarms = "" if false is None else f"{false[0]:.1f} ({false[1]:.1f} to {false[2]:.1f})"
        kept = f"{point.n_right_kept} of {found.n_right}" if found.n_right else ""
        typer.echo(
            f"{point.on:>5.2f}{found.events_a_day(point):>14.1f}{point.n_reviewed:>10}{alarms:>24}{kept:>18}"
        )


def register(app: typer.Typer) -> None:
    app.command()(replay)
    app.command()(curve)
