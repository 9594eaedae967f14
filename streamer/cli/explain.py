"""streamer explain: why a sound was told, or was not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.config.schema import Config, ModelSettings, load_config
from streamer.errors import UsageError
from streamer.run.offline import Explanation
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
    """Say of one moment why a sound was told, or was not: a line for each thing that has a say.

    Example: streamer explain evening.flac --at 83.5 --sound dog_bark
    """
    from streamer.inference.engines.torch import Engine  # noqa: PLC0415  # loads torch

    settings = load_config(config)
    if sound not in settings.sounds:
        raise UsageError(f"{config} has no sound {sound!r}; it has {', '.join(settings.sounds)}")
    engine = Engine(settings.model if model is None else ModelSettings(path=model))
    explanation = explain_file(file, settings, engine, sound=sound, at=at)
    typer.echo(f"{sound} at {at:.2f} s of {file}")
    for what, outcome in lines(explanation, settings, sound):
        typer.echo(f"  {what:10} {outcome}")


def register(app: typer.Typer) -> None:
    app.command()(explain)


def lines(found: Explanation, config: Config, sound: str) -> list[tuple[str, str]]:
    """(what, outcome), the decision last."""
    rule, last = config.sound(sound), found.last
    gate = (
        "the window was scored"
        if found.is_scored
        else "quiet: the next window that is scored sees it as well"
    )
    if last is None:
        return [("gate", gate), ("decided by", "nothing: the moment was not heard")]
    strongest = sorted(last.labels.items(), key=lambda label: -label[1])
    behind = ", ".join(f"{label} {score:.2f}" for label, score in strongest[:5])
    told = next((event for event in found.events), None)
    rows = [
        ("gate", gate),
        ("level", f"{last.level_dbfs:.0f} dBFS"),
        ("raw score", f"{last.raw:.3f}   {behind}"),
    ]
    if found.first is not None and abs(found.first.raw - last.raw) >= 0.01:
        rows.append(("at first", f"{found.first.raw:.3f}, before later windows had seen the moment"))
    guards = ", ".join(f"{guard} {score:.2f}" for guard, score in last.guards.items())
    if rule.unless:
        rows.append(
            ("guard", f"{guards} is stronger" if guards else f"none of {', '.join(rule.unless)} is stronger")
        )
    state = (
        "reaches on"
        if last.smoothed >= rule.on
        else "above off"
        if last.smoothed >= rule.off
        else "below off"
    )
    rows += [
        ("smoothed", f"{last.smoothed:.3f}   median over {rule.smoothing_s:g} s"),
        ("thresholds", f"on {rule.on:g}, off {rule.off:g}: {state}"),
        ("confirm", f"{rule.confirm} of {rule.confirm_of} hops"),
    ]
    if rule.verify != "none" and told is not None:
        rows.append(("cadence", "found in the signal" if found.events[-1].verified else "not in the signal"))
    if rule.cooldown_s and told is not None:
        rows.append(
            ("cool-down", "over: it notifies" if told.notify else "not over: told, but it does not notify")
        )
    return [
        *rows,
        ("decided by", _decision(found, last.smoothed >= rule.on, bool(guards), last.smoothed >= rule.off)),
    ]


def _decision(found: Explanation, reaches_on: bool, is_guarded: bool, is_above_off: bool) -> str:
    if found.events:
        start, end = found.events[0], found.events[-1]
        until = "the end" if end.offset is None else f"{end.offset:.2f} s"
        return f"event {start.id}, from {end.onset:.2f} s to {until}, told at {start.emitted_at:.2f} s"
    if is_guarded:
        return "the guard: no event"
    if found.doubt:
        return f"no event: {found.doubt}"
    if reaches_on:
        return "no event: the score was there for too short a time, or too late"
    if is_above_off:
        return "the threshold: above off, but no moment about it reached on"
    return "the threshold: no event"
