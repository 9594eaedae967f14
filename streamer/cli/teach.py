"""streamer teach: sounds of one's own, from a few clips."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.events import ConfigOption, SourceOption
from streamer.cli.replay import JsonOption, RulesOption
from streamer.cli.subcommands import default_command
from streamer.cli.times import duration, local
from streamer.config.schema import ModelSettings, load_config
from streamer.errors import StreamerError, UsageError
from streamer.store.directory import state_directory

if TYPE_CHECKING:
    from streamer.run.veto import Proposal
    from streamer.teaching.record import Taught

_TEACH = "sound"
_EFFECT = "7d"
"""of which the effect of a veto is shown"""
_SHOWN = 20
"""events of a list for people"""

app = typer.Typer(
    cls=default_command(_TEACH),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Teach a sound of your own from 3 to 10 clips: `streamer teach NAME CLIP…`.\n\n"
    "Example: streamer teach our_doorbell ding1.wav ding2.wav ding3.wav --not microwave.wav",
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What it was taught as.")]


@app.command(_TEACH, hidden=True)
def teach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it: a-z, 0-9, _ and -.")],
    clips: Annotated[list[Path], typer.Argument(metavar="CLIP…", help="Recordings of it, one each.")],
    not_clips: Annotated[
        list[Path] | None,
        typer.Option(
            "--not", metavar="CLIP", help="A recording of what is not it; may come again and again."
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Teach a name anew that exists.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Teach a sound. The model stays as it is; what is learned is a small head over its embeddings.

    Example: streamer teach our_doorbell ding1.wav ding2.wav ding3.wav --not microwave.wav
    """
    from streamer.teaching import record  # noqa: PLC0415  # loads numpy and the decoder
    from streamer.teaching import teach as teaching  # noqa: PLC0415
    from streamer.teaching.clips import check_clips, read_clips  # noqa: PLC0415

    model, state = _places(config)
    if record.path_of(state, name).exists() and not replace:
        raise UsageError(f"{name}: exists: add --replace to teach it anew, or choose another name")
    own = read_clips(clips)
    others = read_clips(not_clips or [])
    check_clips(name, own, others)
    began = time.monotonic()
    taught = teaching.teach(teaching.Lesson(name, own, others), model)
    record.write(state, taught)
    seconds = time.monotonic() - began
    if as_json:
        typer.echo(json.dumps(_of_taught(taught, state), ensure_ascii=False))
        return
    typer.echo(f"{name}: taught from {len(own)} clips with {model.path}, in {seconds:.0f} s")
    for line in _judgement(taught, state):
        typer.echo(f"  {line}")
    typer.echo(f"use it: sounds: {{{name}: {{taught: {name}}}}}, and restart the daemon")


@app.command("list")
def list_taught(config: ConfigOption = None) -> None:
    """Show what was taught.

    Example: streamer teach list
    """
    from streamer.teaching import record  # noqa: PLC0415

    _, state = _places(config)
    known = record.names(state)
    if not known:
        typer.echo(f"nothing yet, in {state}: streamer teach NAME CLIP…")
    faults = list[StreamerError]()
    for name in known:
        try:
            about = record.read(state, name).about
        except StreamerError as fault:  # one damaged file hides none of the others
            faults.append(fault)
            continue
        when = time.strftime("%Y-%m-%d", time.localtime(about.taught_at))
        typer.echo(f"{name:20} {when}  {len(about.clips)} clips, {about.model}")
    if faults:
        raise type(faults[0])(*(line for fault in faults for line in fault.args))


@app.command()
def show(
    name: NameArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show how a sound was taught, and how well it was heard.

    Example: streamer teach show our_doorbell
    """
    from streamer.teaching import record  # noqa: PLC0415

    _, state = _places(config)
    taught = record.read(state, name)
    about = taught.about
    if as_json:
        typer.echo(json.dumps(_of_taught(taught, state), ensure_ascii=False))
        return
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(about.taught_at))
    typer.echo(f"{name}: taught {when} with {about.model} ({about.fingerprint[:12]})")
    typer.echo(f"  {'clips':14} {', '.join(about.clips)}")
    if about.not_clips:
        typer.echo(f"  {'not':14} {', '.join(about.not_clips)}")
    for line in _judgement(taught, state):
        typer.echo(f"  {line}")


@app.command()
def remove(name: NameArgument, config: ConfigOption = None) -> None:
    """Forget a sound, with the embeddings of its clips.

    Example: streamer teach remove our_doorbell
    """
    from streamer.teaching import record  # noqa: PLC0415

    _, state = _places(config)
    record.remove(state, name)
    typer.echo(f"{name}: removed; take `taught: {name}` out of the configuration, too")


@app.command()
def test(
    name: NameArgument,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Recordings to listen to.")],
    config: ConfigOption = None,
) -> None:
    """Listen for a taught sound in recordings: its score in each, and when it is highest.

    Example: streamer teach test our_doorbell evening.flac
    """
    from streamer.inference.engines import open_engine  # noqa: PLC0415
    from streamer.run.offline import highest  # noqa: PLC0415
    from streamer.teaching import record  # noqa: PLC0415
    from streamer.teaching.judgement import ALIKE  # noqa: PLC0415

    model, state = _places(config)
    engine = open_engine(model, heads=record.read_heads(state, [name], model))
    for path in files:
        score, at = highest(path, engine, len(engine.labels) - 1)
        verdict = "heard" if score >= ALIKE else "not heard"
        typer.echo(f"{path}: {verdict}, {score:.2f} at {at:.1f} s")


@app.command()
def veto(
    sound: Annotated[str, typer.Argument(metavar="SOUND", help="One of the configuration's sounds.")],
    config: RulesOption,
    last: Annotated[
        str, typer.Option("--last", help="Learn from so far back: 7d, 30d.", metavar="TIME")
    ] = "30d",
    source: SourceOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Put it in force from the next start on.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take it back, from the next start on.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hold a sound back where it is like its events that were marked wrong, and say what that changes.

    From the scores that the daemon has kept and from `streamer events review ID wrong`. For any sound with
    labels, taught or not, but for critical ones.

    Example: streamer teach veto dog_bark --config home.yaml
    """
    from streamer.run import veto as vetoes  # noqa: PLC0415  # loads numpy

    settings = load_config(config)
    directory, until = state_directory(settings.state_dir), time.time()
    if remove:
        vetoes.apply(directory, settings, sound, None)
        typer.echo(f"{sound}: no veto from the next start on, but that of the configuration")
        return
    found = vetoes.propose(
        directory,
        settings,
        sound,
        until - duration(last),
        until,
        effect_since=until - duration(_EFFECT),
        source=source,
    )
    if as_json:
        typer.echo(json.dumps(_of_veto(found), ensure_ascii=False))
    else:
        for line in _about_veto(sound, found):
            typer.echo(line)
    if apply:
        vetoes.apply(directory, settings, sound, found.veto)
        typer.echo(f"{sound}: in force from the next start on", err=as_json)


def _about_veto(sound: str, found: Proposal) -> list[str]:
    """What it was learned from, what it goes by, and its effect."""
    learned, effect = found.learned, found.effect
    n_others = learned.n_right + learned.n_unreviewed
    lines = [
        f"{sound}: learned from {learned.n_wrong + n_others} events: {learned.n_wrong} marked wrong,"
        f" {learned.n_right} marked right, {learned.n_unreviewed} not reviewed"
    ]
    for name, sign in (("held back by", 1), ("let through by", -1)):
        labels = sorted(
            (label for label, weight in learned.weights.items() if weight * sign > 0),
            key=lambda label: -abs(learned.weights[label]),
        )
        if labels:
            lines.append(f"  {name:14} {', '.join(labels)}")
    others = f"{learned.held_others} of {n_others} others"
    if learned.held_wrong is None:
        left_out = f"{others} held back; one wrong event alone says nothing of further ones"
    else:
        left_out = f"{learned.held_wrong} of {learned.n_wrong} wrong ones and {others} held back"
    lines.append(f"  {'left out':14} {left_out}")
    counts = {name: list(found.verdicts.values()).count(name) for name in ("wrong", "right", "")}
    lines.append(
        f"  {'last week':14} {len(effect.same) + len(effect.gone)} events: {len(effect.gone)} gone"
        f" ({counts['wrong']} marked wrong, {counts['right']} marked right, {counts['']} not reviewed),"
        f" {len(effect.same)} the same, {len(effect.new)} new"
    )
    for event in effect.gone[-_SHOWN:]:
        verdict = found.verdicts[event.id] or "not reviewed"
        lines.append(f"    gone  {local(event.onset)}  {event.source:<16}{event.id}  {verdict}")
    return lines


def _of_veto(found: Proposal) -> dict[str, object]:
    return {
        **asdict(found.learned),
        "model": found.veto.model,
        "gone": [
            {**asdict(event), "verdict": found.verdicts[event.id] or None} for event in found.effect.gone
        ],
        "same": len(found.effect.same),
        "new": len(found.effect.new),
    }


def _judgement(taught: Taught, state: Path) -> list[str]:
    """What may be expected of it, and what it sounds like."""
    from streamer.teaching.clips import GOOD  # noqa: PLC0415
    from streamer.teaching.judgement import judge  # noqa: PLC0415

    about, found = taught.about, judge(taught, state)
    lines = [
        f"{'heard again':14} {about.heard} of {len(about.clips)} clips, each left out in turn",
        f"{'false alarms':14} {about.false} of {about.n_others} windows of other sounds",
    ]
    if found.too_few:
        lines.append(f"{'too few':14} {len(about.clips)} clips say little; {GOOD} and more are better")
    if found.is_contradicted:
        lines.append(
            f"{'contradiction':14} what was given with --not sounds the same: is each clip on its right side?"
        )
    if found.too_different:
        lines.append(f"{'too different':14} the clips have little in common: is each of them the same sound?")
    lines += [
        f"{'sounds alike':14} {other.name}: {other.n} of its {other.n_clips} clips are taken for it;"
        " give them with --not"
        for other in found.alike
    ]
    return lines


def _of_taught(taught: Taught, state: Path) -> dict[str, object]:
    from streamer.teaching.judgement import judge  # noqa: PLC0415

    return {**asdict(taught.about), **asdict(judge(taught, state))}


def _places(config: Path | None) -> tuple[ModelSettings, Path]:
    """The model to teach, and the state directory."""
    if config is None:
        return ModelSettings(), state_directory(None)
    settings = load_config(config)
    return settings.model, state_directory(settings.state_dir)
