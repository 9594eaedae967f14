"""streamer tag, detect: what is in a file."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from streamer.cli.archive import detect_folder
from streamer.config.schema import Config, ModelSettings, example, load_config
from streamer.core.files import writing
from streamer.core.printable import printable
from streamer.errors import InputError, StreamerError, UsageError
from streamer.mqtt.messages import encode, event_message
from streamer.types import SoundEvent

if TYPE_CHECKING:
    from streamer.evaluation.picture import Picture

FilesArgument = Annotated[
    list[Path], typer.Argument(help="Audio files, or videos with sound.", metavar="FILE…")
]
FilesOrFolderArgument = Annotated[
    list[Path],
    typer.Argument(help="Audio files, or videos with sound; or one folder of them.", metavar="FILE…"),
]
ModelOption = Annotated[
    str | None, typer.Option("--model", "-m", help="A directory in Hugging Face format, or a model's name.")
]


HOME = example("home")


class Format(StrEnum):
    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    AUDACITY = "audacity"


def tag(
    files: FilesArgument,
    model: ModelOption = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="How many labels to show.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a file.")] = False,
) -> None:
    """Name what is in whole files: the strongest labels with their scores.

    Example: streamer tag bark.wav --top-k 3
    """
    from streamer.inference.engines import open_engine  # noqa: PLC0415  # loads torch
    from streamer.run.offline import tag as tag_file  # noqa: PLC0415

    _check_any(files)
    engine = open_engine(ModelSettings() if model is None else ModelSettings(path=model))

    def tag_one(path: Path) -> None:
        scores = list(tag_file(path, engine).items())[:top_k]
        if as_json:
            rows = [{"label": label, "score": round(score, 4)} for label, score in scores]
            typer.echo(
                json.dumps({"file": _name(path), "model": engine.name, "scores": rows}, ensure_ascii=False)
            )
        else:
            typer.echo(_name(path))
            for label, score in scores:
                typer.echo(f"  {score:.3f}  {printable(label)}")

    _exit_with(_each(files, tag_one))


def detect(
    files: FilesOrFolderArgument,
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
    model: ModelOption = None,
    format_: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="How to print events; table, and jsonl for a folder."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write here instead of printing.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="For a folder: do what an earlier job has left undone.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option("--shard", help="For a folder: one of N parts of its files, 0 to N - 1.", metavar="I/N"),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on", help="For a folder: the cluster of the section `fleet` scores.", metavar="ray[:HOST:PORT]"
        ),
    ] = None,
    relative: Annotated[
        bool, typer.Option("--relative", help="In jsonl: times in seconds from the start of the file.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw one file's spectrogram, scores and events here.", metavar="PNG"),
    ] = None,
) -> None:
    """Find events in files: the daemon's own path, as fast as the files can be read.

    `jsonl` prints the messages that the daemon would publish, as if the file began now, and the file's name.
    A file that is damaged in the middle is heard up to there. `--out` is written whole or not at all.
    For a folder, --out is a folder, too: docs/fleet.md.

    Example: streamer detect evening.flac --config configs/home.yaml --format audacity --out labels.txt
    """
    if any(path.is_dir() for path in files):
        if len(files) > 1 or out is None or plot is not None:
            raise UsageError("a folder is detected alone, with --out FOLDER, and without --plot")
        settings = _settings(config, model)
        ending, render = _rendering(format_ or Format.JSONL, settings)
        detect_folder(files[0], out, settings, ending, render, resume=resume, shard=shard, on=on)
        return
    if resume or shard is not None or on is not None:
        raise UsageError("--resume, --shard and --on are for a folder")
    format_ = format_ or Format.TABLE
    from streamer.run.model import open_model  # noqa: PLC0415  # loads an engine
    from streamer.run.offline import detect as detect_file  # noqa: PLC0415
    from streamer.run.offline import observe_nothing  # noqa: PLC0415

    settings = _settings(config, model)
    if plot is not None and len(files) > 1:
        raise UsageError("--plot draws one file; name one")
    _check_any(files)
    engine = open_model(settings)
    picture = None if plot is None else _picture(settings, engine.labels)
    with _output(out) as stream:
        write = _WRITERS[format_](stream, settings, relative, len(files) > 1)

        def detect_one(path: Path) -> None:
            start = 0.0 if format_ is not Format.JSONL or relative else time.time()
            with _progress(path) as progress:
                events = detect_file(
                    path,
                    settings,
                    engine,
                    source_id=_id(path),
                    start=start,
                    batch=settings.model.max_batch,
                    progress=progress,
                    observe=picture.see if picture is not None else observe_nothing,
                )
                write(path, start, picture.observe(events) if picture is not None else events)
            if picture is not None and plot is not None:
                picture.draw(str(path), plot, origin=start)

        failure = _each(files, detect_one)
    _exit_with(failure)


def _settings(config: Path, model: str | None) -> Config:
    settings = load_config(config)
    if model is None:
        return settings
    return settings.model_copy(update={"model": settings.model.model_copy(update={"path": model})})


def _rendering(format_: Format, config: Config) -> tuple[str, Callable[[Path, Iterable[SoundEvent]], str]]:
    """The ending of a file in this format, and what makes its text; times are relative to the recording."""

    def render(path: Path, events: Iterable[SoundEvent]) -> str:
        text = io.StringIO(newline="")
        _WRITERS[format_](text, config, True, False)(path, 0.0, events)
        return text.getvalue()

    return {Format.JSONL: ".jsonl", Format.CSV: ".csv"}.get(format_, ".txt"), render


def _picture(config: Config, labels: Sequence[str]) -> Picture:
    from streamer.evaluation.picture import Picture  # noqa: PLC0415  # loads torch, needs matplotlib

    return Picture(config, labels)


def register(app: typer.Typer) -> None:
    app.command()(tag)
    app.command()(detect)


def _check_any(files: list[Path]) -> None:
    """Before a model is loaded, which takes seconds. Raises InputError where there is none of the files."""
    missing = [path for path in files if _is_missing(path)]
    if len(missing) == len(files):
        raise InputError(*(f"{_name(path)}: no such file" for path in missing))


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # that is said where it is read
        return False
    return False


def _each(files: list[Path], do: Callable[[Path], None]) -> StreamerError | None:
    """A bad file is reported, and the others are done all the same. Returns the last failure."""
    failure: StreamerError | None = None
    for path in files:
        try:
            do(path)
        except InputError as error:
            typer.echo(f"streamer: {error}", err=True)
            failure = error
    return failure


def _exit_with(failure: StreamerError | None) -> None:
    if failure is not None:
        raise typer.Exit(failure.exit_code)


def _name(path: Path) -> str:
    """A file's name for people and files of text: bytes that are no UTF-8 and control characters escaped."""
    return printable(str(path))


def _id(path: Path) -> str:
    """A file's name as the name of a source."""
    return re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_-")[:64] or "file"


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    try:
        with writing(path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            try:
                yield text
            finally:
                text.detach()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[float, float | None], None]]:
    """A bar on the error stream, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(printable(path.name)), total=None)
        yield lambda seconds, duration_s: bar.update(task, completed=seconds, total=duration_s)


Writer = Callable[[Path, float, Iterable[SoundEvent]], None]


def _jsonl(stream: TextIO, config: Config, relative: bool, _: bool) -> Writer:
    def write(path: Path, start: float, events: Iterable[SoundEvent]) -> None:
        for event in events:
            message = event_message(event, config.node, origin=start if relative else None)
            print(encode({**message, "file": _name(path)}), file=stream, flush=True)

    return write


def _table(stream: TextIO, config: Config, _: bool, __: bool) -> Writer:
    width = max(len(name) for name in config.sounds)

    def write(path: Path, _: float, events: Iterable[SoundEvent]) -> None:
        print(_name(path), file=stream)
        for onset, offset, event in _ended(events):
            times = f"{_clock(onset)} to {_clock(offset)}"
            print(
                f"  {times}  {event.sound:{width}}  {event.peak:.2f}  {event.level_dbfs:4.0f} dBFS",
                file=stream,
            )

    return write


def _csv(stream: TextIO, _: Config, __: bool, ___: bool) -> Writer:
    rows = csv.writer(stream)
    rows.writerow(["file", "onset_s", "offset_s", "sound", "peak", "level_dbfs", "id"])

    def write(path: Path, _: float, events: Iterable[SoundEvent]) -> None:
        for onset, offset, event in _ended(events):
            level = round(event.level_dbfs, 1)
            rows.writerow(
                [
                    _name(path),
                    f"{onset:.3f}",
                    f"{offset:.3f}",
                    event.sound,
                    f"{event.peak:.4f}",
                    level,
                    event.id,
                ]
            )

    return write


def _audacity(stream: TextIO, _: Config, __: bool, is_one_of_many: bool) -> Writer:
    """A label track: https://manual.audacityteam.org/man/importing_and_exporting_labels.html

    It has no place for a file's name: where there are several, the labels say which.
    """

    def write(path: Path, __: float, events: Iterable[SoundEvent]) -> None:
        where = f"{_name(path)}: " if is_one_of_many else ""
        for onset, offset, event in _ended(events):
            print(f"{onset:.6f}\t{offset:.6f}\t{where}{event.sound}", file=stream)

    return write


_WRITERS: dict[Format, Callable[[TextIO, Config, bool, bool], Writer]] = {
    Format.TABLE: _table,
    Format.JSONL: _jsonl,
    Format.CSV: _csv,
    Format.AUDACITY: _audacity,
}


def _ended(events: Iterable[SoundEvent]) -> Iterator[tuple[float, float, SoundEvent]]:
    """(onset, offset, the last message) of each event, by onset.

    Raises InputError at the end where the file was damaged.
    """
    ended: list[tuple[float, float, SoundEvent]] = []
    damage: InputError | None = None
    try:
        ended.extend((event.onset, event.offset, event) for event in events if event.offset is not None)
    except InputError as error:
        damage = error
    yield from sorted(ended, key=lambda row: row[:2])
    if damage is not None:
        raise damage


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds, 2), 60)
    return f"{int(minutes):3d}:{seconds:05.2f}"
