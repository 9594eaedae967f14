"""streamer train, eval: models from own clips, and how good they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typer.core import TyperGroup

from streamer.config.schema import ModelSettings
from streamer.data.settings import ClipsSettings
from streamer.errors import UsageError
from streamer.training.settings import DistillSettings, FinetuneSettings, TrainSettings, load_recipe

_INTERRUPTED = 130  # what shells make of SIGINT
_RUN = "run"


class _RunIsMeant(TyperGroup):
    """`train RECIPE` is `train run RECIPE`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own class
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [_RUN, *args]
        return super().parse_args(ctx, args)


train = typer.Typer(
    cls=_RunIsMeant,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train a model on own clips: `streamer train RECIPE`, the same as `streamer train run RECIPE`.\n\n"
    "Example: streamer train configs/train/esc50.yaml --resume",
)

OutputOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where the run lies, instead of the recipe's output.")
]
FoldOption = Annotated[
    int | None, typer.Option(help="The fold to hold out for validation, instead of the recipe's.")
]
PlainOption = Annotated[bool, typer.Option("--plain", help="No progress bar, even on a terminal.")]
DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="A folder of classes, a CSV or TSV file, or a recipe (YAML).")
]


@train.command(_RUN)
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="For example configs/train/esc50.yaml.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint, if there is one.")
    ] = False,
    output: OutputOption = None,
    fold: FoldOption = None,
    plain: PlainOption = False,
) -> None:
    """Train as a recipe says. What comes out is a model directory: OUTPUT/model.

    Example: streamer train configs/train/esc50.yaml --fold 2 --output runs/esc50-2
    """
    settings = load_recipe(recipe)
    with _watch(plain=plain) as watch:
        try:
            model = _train(settings, watch, resume=resume, output=output, fold=fold)
        except KeyboardInterrupt:
            watch.say("stopped; the same command with --resume goes on from the last checkpoint")
            raise typer.Exit(_INTERRUPTED) from None
    typer.echo(model)


def _train(
    settings: TrainSettings, watch: _Bar, *, resume: bool, output: Path | None, fold: int | None
) -> Path:
    """Each task to its own program."""
    match settings:
        case FinetuneSettings():
            from streamer.training.finetune import finetune  # noqa: PLC0415  # loads torch

            return finetune(settings.with_command_line(output, fold), resume=resume, watch=watch)
        case DistillSettings():
            if output is not None or fold is not None:
                raise UsageError("--output and --fold are for fine-tuning; edit the recipe instead")
            from streamer.training.distill import distill  # noqa: PLC0415  # loads torch

            return distill(settings, resume=resume, watch=watch)
        case _:
            raise UsageError(f"task {settings.task} cannot be trained")


@train.command()
def stats(
    data: DataArgument,
    model: Annotated[
        str | None, typer.Option(help="Measure for this model's window and rate; else those of AST, 10.24 s.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write mean and std into the model's preprocessor_config.json.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read clips.")] = 2,
    plain: PlainOption = False,
) -> None:
    """Measure mean and standard deviation of the features of clips, and list those that cannot be used.

    `train` does this itself. Example: streamer train stats sounds/ --model my-model --write
    """
    if write and model is None:
        raise UsageError("--write needs --model, the model directory to write into")
    from dataclasses import replace  # noqa: PLC0415

    from streamer.data.examples import read_examples, read_split  # noqa: PLC0415
    from streamer.model import checkpoint, hub  # noqa: PLC0415  # loads torch
    from streamer.model.fbank import FbankConfig  # noqa: PLC0415
    from streamer.training.statistics import measure, write_preprocessor  # noqa: PLC0415

    recipe = _recipe(data)
    examples = read_examples(ClipsSettings(path=data)) if recipe is None else read_split(recipe.data)[0]
    fbank = FbankConfig() if model is None else checkpoint.load_config(hub.resolve(model))[1]
    if recipe is not None and recipe.max_length is not None:
        fbank = replace(fbank, max_length=recipe.max_length)
    short: Literal["pad", "place"] = "pad" if recipe is None else recipe.data.short
    with _watch(plain=plain) as watch:
        found = measure(examples, fbank, short=short, workers=workers, watch=watch)
    for reason in found.skipped.values():
        typer.echo(f"skipped: {reason}")
    typer.echo(f"clips {found.n_clips - len(found.skipped)}, skipped {len(found.skipped)}")
    typer.echo(f"mean  {found.mean:.7f}\nstd   {found.std:.7f}")
    if write and model is not None:
        typer.echo(write_preprocessor(hub.resolve(model), found))


def evaluate(
    names: Annotated[
        list[str],
        typer.Argument(metavar="MODEL... DATA", help="One or more models, then the clips: see the text."),
    ],
    average: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Average the models' weights into a new model here, and judge that."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.json and the pictures there.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Of the network.")] = "auto",
    plain: PlainOption = False,
) -> None:
    """Judge models by labelled clips: mAP, mAUC, d', top-1 and top-5, and each label's average precision.

    DATA is a folder with a folder for each class, a CSV or TSV file of file and labels, or a recipe, of
    which the test clips are taken, else those that validate. Several models are an ensemble: the mean of
    their scores.

    Example: streamer eval runs/esc50/model configs/train/esc50.yaml --out report
    """
    *models, data = names
    if not models:
        raise UsageError("name at least one model, and then the clips: streamer eval MODEL DATA")
    from streamer.data.examples import read_examples, read_test  # noqa: PLC0415
    from streamer.evaluation import plots, report  # noqa: PLC0415  # loads torch
    from streamer.evaluation.tagging import evaluate as judge  # noqa: PLC0415

    recipe = _recipe(Path(data))
    source = ClipsSettings(path=Path(data))
    examples = read_examples(source) if recipe is None else read_test(recipe.data)
    if out is not None and (why_not := plots.missing()):
        raise UsageError(why_not)
    if average is not None:
        report.average_models(models, average)
        models = [str(average)]
    try:
        settings = ModelSettings(device=device, dtype=dtype)
    except ValidationError:
        raise UsageError(f"--device is auto, cpu or cuda, not {device!r}") from None
    with _watch(plain=plain) as watch:
        watch.begin("scoring clips", len(models) * len(examples))
        scored = report.score_clips(models, examples, settings, lambda: watch.advance(1))
        watch.end()
    result = judge(scored.scores, scored.truth, scored.labels)
    for reason in scored.skipped:
        typer.echo(f"skipped: {reason}", err=True)
    figures = report.as_json(result, {"models": models, "data": data, "n_skipped": len(scored.skipped)})
    typer.echo(figures if json else report.as_table(result, scored))
    if out is not None:
        for path in report.write(out, figures, scored):
            typer.echo(path, err=True)


def register(app: typer.Typer) -> None:
    app.add_typer(train, name="train")
    app.command("eval")(evaluate)


def _recipe(path: Path) -> FinetuneSettings | None:
    """The recipe, if that is what a path names."""
    if path.suffix.lower() not in {".yaml", ".yml"}:
        return None
    settings = load_recipe(path)
    if not isinstance(settings, FinetuneSettings):
        raise UsageError(f"{path}: is no fine-tuning; name the clips themselves")
    return settings


class _Speed(ProgressColumn):
    """Clips a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "")


class _Bar:
    """A bar with loss, rate and time left on the error stream, and lines above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, what: str, total: int, done: int = 0) -> None:
        self._task = self._progress.add_task(what, total=total, completed=done, note="")

    def advance(self, n: int, note: str = "") -> None:
        self._progress.update(self._task, advance=n, note=note)

    def end(self) -> None:
        self._progress.remove_task(self._task)


@contextmanager
def _watch(*, plain: bool) -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=plain or not console.is_terminal) as progress:
        yield _Bar(progress)
