"""streamer detect FOLDER: an archive of recordings, as a job that may be stopped and shared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from streamer.archive import job
from streamer.archive.output import Output, Shard, explained
from streamer.config.schema import Config, FleetSettings, ModelSettings
from streamer.errors import InputError, UsageError
from streamer.inference.heads import Head
from streamer.inference.worker import Engine
from streamer.types import SoundEvent

LOST_S = 600.0
"""for which a batch is given to other replicas: nobody waits for it"""


def detect_folder(
    recordings: Path,
    out: Path,
    config: Config,
    ending: str,
    render: Callable[[Path, Iterable[SoundEvent]], str],
    *,
    resume: bool,
    shard: str | None,
    on: str | None,
) -> None:
    """Detect the files of a folder. Exits with 66 where some of them could not be heard.

    `on` is `ray` or `ray:HOST:PORT`: the machines of a cluster score.

    Raises UsageError, InputError, OutputError, ModelError, ConfigError, InferenceError.
    """
    from streamer.run.fingerprints import fingerprints  # noqa: PLC0415
    from streamer.run.model import heads_of  # noqa: PLC0415

    fleet = None if on is None else _fleet(config, on)
    part = Shard() if shard is None else Shard.parse(shard)
    with explained(out):
        if out.exists() and (not out.is_dir() or out.samefile(recordings)):
            raise UsageError(f"{out}: name a folder for the results, other than that of the recordings")
    output = Output(out, part, ending)
    with output.working():
        with output.engine() as kind:
            engine = _open(job.as_chosen(config.model, kind), heads_of(config), fleet)
            settings = job.settings_of(config, engine, engine.kind, ending, fingerprints(config))
            found = output.survey(recordings, settings, resume=resume)
        output.take_up()
        with _bar() as progress:
            at_once = 1 if fleet is None else fleet.flights
            summary = job.run(recordings, output, config, engine, found, render, progress, at_once=at_once)
    hours = summary.audio_s / 3600
    counts = ", ".join(f"{n} {result}" for result, n in sorted(summary.results.items())) or "no files"
    typer.echo(
        f"{counts}; now {summary.n_new} files, {hours:.2f} h of sound in {summary.took_s:.0f} s;"
        f" report: {output.report}",
        err=True,
    )
    if summary.n_failed:
        raise typer.Exit(InputError.exit_code)


def _fleet(config: Config, on: str) -> FleetSettings:
    """What makes the bytes the same as here: whole batches, and nothing rounded on the way."""
    kind, _, address = on.partition(":")
    if kind != "ray":
        raise UsageError(f"--on {on}: ray or ray:HOST:PORT")
    if config.fleet is None:
        raise UsageError(
            "--on ray: the configuration has no section `fleet`, which names the token: docs/fleet.md"
        )
    exact = {"batch": config.model.max_batch, "payload": "float32"}
    fleet = config.fleet.model_copy(update=exact | ({"address": address} if address else {}))
    try:
        return FleetSettings.model_validate(fleet.model_dump())
    except ValidationError:
        raise UsageError(f"--on {on}: ray or ray:HOST:PORT") from None


def _open(settings: ModelSettings, heads: Sequence[Head], fleet: FleetSettings | None) -> Engine:
    """The engine, here or there."""
    if fleet is None:
        from streamer.inference.engines import open_engine  # noqa: PLC0415  # loads torch

        return open_engine(settings, heads=heads)
    from streamer.inference.ray.engine import RayEngine  # noqa: PLC0415

    patient = fleet.model_copy(update={"deadline_s": LOST_S})
    return RayEngine(patient, settings, heads=heads)


class _HoursASecond(ProgressColumn):
    """Hours of sound a second."""

    def render(self, task: Task) -> Text:
        elapsed_s = task.elapsed or 0.0
        return Text(f"{task.fields['audio_s'] / 3600 / elapsed_s:.3f} h/s" if elapsed_s else "")


class _Bar:
    """Files, hours a second and time left, on the error stream."""

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._shown_at = 0.0

    def begin(self, n_files: int, n_bytes: int) -> None:
        self._files = self._progress.add_task("files", total=n_files, audio_s=0.0)
        self._bytes = self._progress.add_task("sound", total=n_bytes, audio_s=0.0)

    def update(self, n_files: int, n_bytes: float, audio_s: float) -> None:
        now = time.monotonic()
        if now - self._shown_at > 0.1:  # a bar costs more than a small file
            self._shown_at = now
            self._progress.update(self._files, completed=n_files)
            self._progress.update(self._bytes, completed=n_bytes, audio_s=audio_s)


@contextmanager
def _bar() -> Iterator[_Bar]:
    """The bar, where the error stream is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _HoursASecond(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield _Bar(progress)
