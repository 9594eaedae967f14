"""streamer train, eval: models from own clips, and how good they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from streamer.cli.evaluation import recipe_at
from streamer.cli.progress import Bar, bar
from streamer.cli.subcommands import default_command
from streamer.data.settings import ClipsSettings
from streamer.errors import UsageError
from streamer.training.settings import DistillSettings, FinetuneSettings, TrainSettings, load_recipe

_INTERRUPTED = 130  # what shells make of SIGINT
_RUN = "run"


app = typer.Typer(
    cls=default_command(_RUN),
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


@app.command(_RUN)
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
    with bar(plain=plain) as shown:
        try:
            model = _train(settings, shown, resume=resume, output=output, fold=fold)
        except KeyboardInterrupt:
            shown.message("stopped; the same command with --resume goes on from the last checkpoint")
            raise typer.Exit(_INTERRUPTED) from None
    typer.echo(model)


def _train(settings: TrainSettings, bar: Bar, *, resume: bool, output: Path | None, fold: int | None) -> Path:
    """Each task to its own program."""
    match settings:
        case FinetuneSettings():
            from streamer.training.finetune import finetune  # noqa: PLC0415  # loads torch

            return finetune(settings.with_command_line(output, fold), resume=resume, bar=bar)
        case DistillSettings():
            if output is not None or fold is not None:
                raise UsageError("--output and --fold are for fine-tuning; edit the recipe instead")
            from streamer.training.distill import distill  # noqa: PLC0415  # loads torch

            return distill(settings, resume=resume, bar=bar)
        case _:
            raise UsageError(f"task {settings.task} cannot be trained")


@app.command()
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
    from streamer.model import hub  # noqa: PLC0415
    from streamer.model.config import FbankConfig, read_config  # noqa: PLC0415
    from streamer.training.statistics import measure, write_preprocessor  # noqa: PLC0415

    recipe = recipe_at(data)
    examples = read_examples(ClipsSettings(path=data)) if recipe is None else read_split(recipe.data)[0]
    fbank = FbankConfig() if model is None else read_config(hub.resolve(model))[1]
    if recipe is not None and recipe.max_length is not None:
        fbank = replace(fbank, max_length=recipe.max_length)
    short: Literal["pad", "place"] = "pad" if recipe is None else recipe.data.short
    with bar(plain=plain) as shown:
        found = measure(examples, fbank, short=short, workers=workers, bar=shown)
    for reason in found.skipped.values():
        typer.echo(f"skipped: {reason}")
    typer.echo(f"clips {found.n_clips - len(found.skipped)}, skipped {len(found.skipped)}")
    typer.echo(f"mean  {found.mean:.7f}\nstd   {found.std:.7f}")
    if write and model is not None:
        typer.echo(write_preprocessor(hub.resolve(model), found))
