"""streamer explain: why a sound started an event, or did not, in a file or at a moment of the past days."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from streamer.cli.times import local, moment
from streamer.config.schema import Config, ModelSettings, example, load_config
from streamer.core.times import utc
from streamer.detection.explain import Explanation
from streamer.errors import UsageError
from streamer.store.directory import state_directory

HOME = example("home")


def explain(
    at: Annotated[
        str,
        typer.Option("--at", help="When: local time; of a file, seconds from its start.", metavar="TIME"),
    ],
    sound: Annotated[str, typer.Option("--sound", "-s", help="One of the configuration's sounds.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="An audio file; without one, what the daemon has heard.", metavar="FILE"),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Where it was, without FILE.", metavar="NAME")
    ] = None,
    config: Annotated[
        Path,
        typer.Option(
            "--config",
            "-c",
            help="Which sounds, with which thresholds.",
            metavar="FILE",
            show_default="the home.yaml that ships",
        ),
    ] = HOME,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A directory in Hugging Face format, or a model's name."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
) -> None:
    """Say why a sound started an event at a moment, or did not: a line for each rule.

    Example: streamer explain --at "2026-11-27 20:56:33" --source kitchen --sound dog_bark

    Example: streamer explain evening.flac --at 83.5 --sound dog_bark
    """
    settings = load_config(config)
    if sound not in settings.sounds:
        raise UsageError(f"{config} has no sound {sound!r}; it has {', '.join(settings.sounds)}")
    if file is not None:
        if source is not None:
            raise UsageError("--source is of what the daemon has heard: leave it out beside a file")
        seconds = _seconds(at)
        explanation = _of_file(file, settings, model, sound, seconds)
        if as_json:
            _print_json({"file": str(file), "sound": sound, "at_s": seconds}, explanation, None)
            return
        typer.echo(f"{sound} at {seconds:.2f} s of {file}")
        _print(explanation, None)
        return
    if model is not None:
        raise UsageError("--model scores a file: name one")
    from streamer.run.replay import explain_at  # noqa: PLC0415  # loads numpy

    when = moment(at)
    directory = state_directory(settings.state_dir)
    place, explanation = explain_at(directory, settings, source, sound=sound, at=when)
    if as_json:
        _print_json({"source": place, "sound": sound, "at": utc(when)}, explanation, when)
        return
    typer.echo(f"{sound} at {local(when)}, {place}")
    _print(explanation, when)


def _of_file(file: Path, settings: Config, model: str | None, sound: str, at: float) -> Explanation:
    from streamer.run.model import open_model  # noqa: PLC0415  # loads an engine
    from streamer.run.offline import explain as explain_file  # noqa: PLC0415

    if model is not None:
        settings = settings.model_copy(update={"model": ModelSettings(path=model)})
    return explain_file(file, settings, open_model(settings), sound=sound, at=at)


def _print(explanation: Explanation, when: float | None) -> None:
    for what, outcome in _lines(explanation, when):
        typer.echo(f"  {what:10} {outcome}")


def _print_json(place: dict[str, object], explanation: Explanation, when: float | None) -> None:
    events = list(dict.fromkeys(event.id for event in explanation.events))
    typer.echo(json.dumps({**place, "lines": _lines(explanation, when), "events": events}))


def _lines(explanation: Explanation, when: float | None) -> list[tuple[str, str]]:
    return explanation.lines() if when is None else explanation.lines(_clock)


def _clock(at: float) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 100) % 100:02d}"


def _seconds(text: str) -> float:
    """Raises UsageError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{text!r}: of a file, --at is seconds from its start, such as 83.5")
    return seconds


def register(app: typer.Typer) -> None:
    app.command()(explain)
