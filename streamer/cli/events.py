"""streamer events, streamer forget: what happened, whether it was right, and how to be rid of it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from streamer.cli.times import duration, local, moment, since
from streamer.config.schema import ClipSettings, load_config
from streamer.config.yaml import NAME
from streamer.core.printable import printable
from streamer.core.times import utc
from streamer.errors import InputError, StreamerError, UsageError
from streamer.store import history
from streamer.store.clips import clip_path, remove_clips
from streamer.store.directory import state_directory
from streamer.store.edit import editing, forget_missed, kept_clips
from streamer.store.edit import forget as forget_events
from streamer.store.event_files import as_lines, as_table, event_fields
from streamer.store.query import Event, Filter, Reader, reading
from streamer.store.score_files import forget_scores

SHOWN = 100
"""events in a list for people, unless more are asked for"""
OTHER = "other"
"""the class of clips that are not of the sound they were taken for"""

_NO_CLIP = {
    "none": "",
    "speech": "none: somebody may speak in it",
    "full": "none: there was no room for it",
    "failed": "none: it could not be written, or the audio was gone",
    "expired": "gone: too old, or too many",
    "deleted": "deleted",
}

app = typer.Typer(
    invoke_without_command=True, no_args_is_help=False, help="What happened: list, show, review, export."
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="The configuration, where it sets state_dir.", metavar="FILE"),
]
LastOption = Annotated[str, typer.Option("--last", help="So far back: 90m, 24h, 7d; or all.", metavar="TIME")]
SoundOption = Annotated[str | None, typer.Option("--sound", help="Of one sound.", metavar="NAME")]
SourceOption = Annotated[str | None, typer.Option("--source", help="Of one source.", metavar="NAME")]


@app.callback(epilog="Example: streamer events --last 7d --sound dog_bark --verdict none")
def events(
    context: typer.Context,
    last: LastOption = "24h",
    sound: SoundOption = None,
    source: SourceOption = None,
    verdict: Annotated[
        str | None, typer.Option("--verdict", help="right, wrong, or none: not reviewed.", metavar="WHICH")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON an event.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table for other programs.")] = False,
    config: ConfigOption = None,
) -> None:
    """List events, newest first, while the daemon runs and while it does not."""
    if context.invoked_subcommand is not None:
        return
    wanted = Filter(since=since(last), source=source, sound=sound, verdict=_verdict(verdict))
    with reading(_directory(config)) as reader:
        if as_json:
            sys.stdout.writelines(as_lines(reader.events(wanted, n=limit)))
        elif as_csv:
            sys.stdout.writelines(as_table(reader.events(wanted, n=limit)))
        else:
            _list(reader, wanted, limit or SHOWN, last)


@app.command(epilog="Example: streamer events show 5a18c1")
def show(
    event_id: Annotated[str, typer.Argument(help="The event, or the first letters of its id.", metavar="ID")],
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Show all that is known of an event."""
    directory = _directory(config)
    with reading(directory) as reader:
        event = reader.event(event_id)
        reviews = reader.reviews(event.id)
    if as_json:
        listed = [{**asdict(review), "at": utc(review.at)} for review in reviews]
        typer.echo(json.dumps({**event_fields(event), "reviews": listed}, ensure_ascii=False))
        return
    _print(_line(event))
    rows = {
        "id": event.id,
        "began": local(event.onset),
        "ended": _ended(event),
        "labels": ", ".join(f"{label} {score:.2f}" for label, score in event.labels.items()),
        "verified": {True: "the cadence of an alarm is in it", False: "no cadence of an alarm", None: ""}[
            event.verified
        ],
        "latency": f"{event.latency_ms} ms",
        "priority": event.priority if event.notify else f"{event.priority}, without an alert: it cooled down",
        "model": event.model or "",
        "rules": _rules(event.rule),
        "clip": _clip(directory, event),
    }
    for name, value in rows.items():
        if value:
            _print(f"  {name:<10}{value}")
    for review in reviews:
        what = " ".join(part for part in (review.verdict or "taken back", _instead(review.sound)) if part)
        _print(f"  {'review':<10}{local(review.at)}  {what}{f': {review.note}' if review.note else ''}")


@app.command(epilog="Example: streamer events review 5a18c1 wrong --sound door_knock")
def review(
    event_id: Annotated[str, typer.Argument(help="The event, or the first letters of its id.", metavar="ID")],
    verdict: Annotated[str, typer.Argument(help="right, wrong, or undo.", metavar="VERDICT")],
    sound: Annotated[str | None, typer.Option("--sound", help="What it was instead.", metavar="NAME")] = None,
    note: Annotated[str | None, typer.Option("--note", help="Anything worth keeping.")] = None,
    config: ConfigOption = None,
) -> None:
    """Say whether an event was what it was taken for."""
    if verdict not in ("right", "wrong", "undo"):
        raise UsageError(f"{verdict!r} is no verdict: right, wrong or undo")
    if sound is not None and verdict != "wrong":
        raise UsageError("--sound says what a wrong event was instead: use it with `wrong`")
    directory = _directory(config)
    with reading(directory) as reader:
        event = reader.event(event_id)
    with editing(directory) as db:
        kept = None if verdict == "undo" else verdict
        if not history.review(db, event.id, kept, sound=sound, note=note):
            raise InputError(f"{event.id}: it was deleted meanwhile")
    with reading(directory) as reader:
        _print(_line(reader.event(event.id)))


@app.command(epilog="Example: streamer events pin 5a18c1")
def pin(
    event_id: Annotated[str, typer.Argument(help="The event, or the first letters of its id.", metavar="ID")],
    undo: Annotated[bool, typer.Option("--undo", help="Let it go in time again.")] = False,
    config: ConfigOption = None,
) -> None:
    """Keep an event and its clip, whatever their age."""
    clips = ClipSettings() if config is None else load_config(config).clips
    directory = _directory(config)
    with reading(directory) as reader:
        event = reader.event(event_id)
    with editing(directory) as db:
        if not history.pin(db, event.id, not undo, most=clips.max_mb << 19):
            raise InputError(
                f"{event.id}: pinned clips would be more than half of clips.max_mb: {clips.max_mb}"
            )
    with reading(directory) as reader:
        _print(_line(reader.event(event.id)))


@app.command(epilog='Example: streamer events missed doorbell --source hall --at "2026-11-27 20:14:05"')
def missed(
    sound: Annotated[str | None, typer.Argument(help="What it was.", metavar="SOUND")] = None,
    source: SourceOption = None,
    at: Annotated[str | None, typer.Option("--at", help="When it began, local time.", metavar="TIME")] = None,
    lasting: Annotated[str, typer.Option("--lasting", help="For so long.", metavar="TIME")] = "2s",
    note: Annotated[str | None, typer.Option("--note", help="Anything worth keeping.")] = None,
    last: LastOption = "all",
    config: ConfigOption = None,
) -> None:
    """Report a sound of which no event was made; without one, list what was reported.

    Where clips are switched on and the daemon still has the moment in memory, it keeps a clip of it.
    """
    directory = _directory(config)
    if sound is None:
        with reading(directory) as reader:
            for one in reader.missed(Filter(since=since(last), source=source)):
                length = f"{one.offset - one.onset:.1f} s"
                parts = [f"{local(one.onset)}  {one.source:<16}{one.sound:<24}{length:>9}"]
                if one.note:
                    parts.append(one.note)
                if one.clip == "kept" and one.clip_start is not None:
                    parts.append(str(clip_path(directory, one.clip_id, one.clip_start)))
                _print("  ".join(parts))
        return
    if source is None or at is None:
        raise UsageError("say where and when: --source NAME --at TIME")
    onset = moment(at)
    with editing(directory) as db:
        history.add_missed(db, source, sound, onset, onset + duration(lasting), note)
    _print(f"noted: {sound} at {source}, {local(onset)}")


@app.command(epilog="Example: streamer events export --audio clips-of-home && streamer train clips-of-home")
def export(
    audio: Annotated[
        Path, typer.Option("--audio", help="Where to: a folder with a folder for each sound.", metavar="DIR")
    ],
    last: LastOption = "all",
    sound: SoundOption = None,
    source: SourceOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the clips of reviewed events and of missed sounds, in the form that `streamer train` takes.

    Right and missed ones go under their sound, wrong ones under what they were instead, or under `other`.
    """
    directory = _directory(config)
    counts: dict[str, int] = {}
    n_reviewed = 0
    wanted = Filter(since=since(last), source=source, sound=sound)
    with reading(directory) as reader:
        for one in reader.missed(wanted):
            if one.clip == "kept" and one.clip_start is not None:
                clip = clip_path(directory, one.clip_id, one.clip_start)
                _copy(clip, audio / _folder(one.sound, "a missed sound", "report") / clip.name)
                counts[one.sound] = counts.get(one.sound, 0) + 1
        for event in reader.events(wanted):
            if event.verdict is None:
                continue
            n_reviewed += 1
            clip = clip_path(directory, event.id, _clip_start(event))
            if event.clip != "kept" or not clip.is_file():
                continue
            name = event.sound if event.verdict == "right" else event.verdict_sound or OTHER
            _copy(clip, audio / _folder(name, event.id, "review") / clip.name)
            counts[name] = counts.get(name, 0) + 1
    for name, n in sorted(counts.items()):
        typer.echo(f"{name:<24}{n:>6}")
    if not counts:
        what = "has a clip" if n_reviewed else "was reviewed: see `streamer events review`"
        raise InputError(f"nothing to export: none of these events {what}")


def forget(
    last: Annotated[str | None, typer.Option("--last", help="So far back: 1h, 7d.", metavar="TIME")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is kept.")] = False,
    source: SourceOption = None,
    broker: Annotated[
        bool,
        typer.Option("--broker", help="Instead: what the broker retains, so devices go from Home Assistant."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Delete events, with their reviews, messages and clips, and the scores of that time.

    What sounds just now stays until it has ended. With --broker it is the states and devices of this node at
    the broker that are deleted, and no events; stop the daemon first, which would publish them again.

    Example: streamer forget --last 1h --source bedroom
    """
    if broker:
        if last is not None or everything or source is not None:
            raise UsageError("--broker goes alone: it deletes no events")
        if config is None:
            raise UsageError("say which broker and node: --broker --config FILE")
        n = forget_at_broker(config)
        typer.echo(f"forgotten: {n} retained messages at the broker")
        return
    if (last is None) == (not everything):
        raise UsageError("say how much: --last TIME, or --all")
    start = None if last is None else since(last)
    directory = _directory(config)
    with editing(directory) as db:
        clips = kept_clips(db, since=start, source=source)
        n_events, n_messages = forget_events(db, since=start, source=source)
        n_missed = forget_missed(db, since=start, source=source)
    remove_clips(directory, clips)
    minutes = forget_scores(directory, since=start, source=source) / 60
    typer.echo(
        f"forgotten: {n_events} events, {n_messages} messages, {n_missed} reports of missed sounds, "
        f"{len(clips)} clips, the scores of {minutes:.0f} minutes"
    )


def register(to: typer.Typer) -> None:
    to.add_typer(app, name="events")
    to.command()(forget)


def forget_at_broker(path: Path) -> int:
    """Delete what a node has left at its broker; the number of messages. Raises StreamerError."""
    from streamer.mqtt.retained import clear_node  # noqa: PLC0415  # slow to load

    config = load_config(path)
    prefix = "homeassistant" if config.home_assistant is None else config.home_assistant.discovery_prefix
    return len(asyncio.run(clear_node(config.mqtt, config.node, [prefix])))


def _directory(config: Path | None) -> Path:
    return state_directory(None if config is None else load_config(config).state_dir)


def _list(reader: Reader, wanted: Filter, limit: int, last: str) -> None:
    shown, is_more = 0, False
    for event in reader.events(wanted, n=limit + 1):
        if shown == limit:
            is_more = True
            break
        _print(_line(event))
        shown += 1
    if not shown:
        typer.echo(
            "nothing was heard" + ("" if last == "all" else f" in the last {last}; --last all shows all")
        )
    elif is_more:
        typer.echo(f"and older ones: --limit shows more than {limit}")


def _line(event: Event) -> str:
    if event.offset is None:
        length = "goes on"
    else:
        length = f"{'>' if event.is_cut else ''}{event.offset - event.onset:.1f} s"
    clip = {"kept": "pinned" if event.pinned else "clip"}.get(event.clip, "")
    marks = " ".join(part for part in (clip, event.verdict or "", _instead(event.verdict_sound)) if part)
    return (
        f"{local(event.onset)}  {event.source:<16}{event.sound:<24}{length:>9}"
        f"  {event.peak:.2f}{event.level_dbfs:>6.0f} dBFS  {event.id}  {marks}"
    ).rstrip()


def _clip_start(event: Event) -> float:
    return event.onset if event.clip_start is None else event.clip_start


def _clip(directory: Path, event: Event) -> str:
    """Where the clip is, and where the event is in it; or why there is none."""
    if event.clip != "kept" or event.clip_start is None or event.clip_end is None:
        return _NO_CLIP.get(event.clip, event.clip)
    path = clip_path(directory, event.id, event.clip_start)
    length, begins = event.clip_end - event.clip_start, event.onset - event.clip_start
    pinned = ", pinned" if event.pinned else ""
    return (
        f"{path}, {length:.1f} s, the event from {begins:.2f} s on, {event.clip_bytes / 1000:.0f} kB{pinned}"
    )


def _ended(event: Event) -> str:
    if event.offset is None:
        return "it goes on"
    cut = ", or later: the program was killed meanwhile" if event.is_cut else ""
    return f"{local(event.offset)}, after {event.offset - event.onset:.1f} s{cut}"


def _rules(rule: dict[str, Any] | None) -> str:
    if rule is None:
        return ""
    names = ("on", "off", "confirm", "min_duration_s", "merge_gap_s", "above_background_db", "verify")
    return ", ".join(f"{name} {rule[name]}" for name in names if rule.get(name) not in (None, 0.0, "none"))


def _instead(sound: str | None) -> str:
    return "" if sound is None else f"it was {sound}"


def _folder(name: str, what: str, do: str) -> str:
    """The name of a sound as that of a folder. Raises InputError where it cannot be one."""
    if not re.fullmatch(NAME, name):
        raise InputError(f"{what} was {do}ed as {printable(name)}: {do} it with a sound's name")
    return name


def _copy(clip: Path, to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(clip, to)
    except OSError as error:
        raise StreamerError(f"{to}: cannot be written: {error.strerror}") from None


def _print(line: str) -> None:
    """Print it for people: what would steer a terminal is shown as a mark."""
    typer.echo("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line))


def _verdict(text: str | None) -> Literal["right", "wrong", "none"] | None:
    match text:
        case None | "right" | "wrong" | "none":
            return text
    raise UsageError(f"{text!r} is no verdict: right, wrong or none")
