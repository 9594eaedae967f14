"""streamer explain: why a sound started an event, or did not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.config.schema import ModelSettings, load_config
from streamer.errors import UsageError
from streamer.run.offline import explain as explain_file


def explain(
    file: Annotated[Path, typer.Argument(help="An audio file.", metavar="FILE")],
    at: Annotated[float, typer.Option("--at", min=0, help="When, in seconds from the start of the file.")],
    sound: Annotated[str, typer.Option("--sound", "-s", help="One of the configuration's sounds.")],
    config: Annotated[
        Path, typer.Option("--config", "-c", help="Which sounds, with which thresholds.", metavar="FILE")
    ] = Path("configs/home.yaml"),
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="A directory in Hugging Face format, or a model's name."),
    ] = None,
) -> None:
    """Say why a sound started an event at a moment, or did not: a line for each rule.

    Example: streamer explain evening.flac --at 83.5 --sound dog_bark
    """
    from streamer.inference.engines import open_engine  # noqa: PLC0415  # loads torch

    settings = load_config(config)
    if sound not in settings.sounds:
        raise UsageError(f"{config} has no sound {sound!r}; it has {', '.join(settings.sounds)}")
    engine = open_engine(settings.model if model is None else ModelSettings(path=model))
    explanation = explain_file(file, settings, engine, sound=sound, at=at)
    typer.echo(f"{sound} at {at:.2f} s of {file}")
    for what, outcome in explanation.lines():
        typer.echo(f"  {what:10} {outcome}")


def register(app: typer.Typer) -> None:
    app.command()(explain)
