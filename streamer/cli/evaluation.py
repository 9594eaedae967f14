"""streamer eval: how well models and configurations hear, measured on labelled clips and recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from streamer.cli.progress import bar
from streamer.cli.subcommands import default_command
from streamer.config.schema import ModelSettings, example, load_config
from streamer.data.settings import ClipsSettings
from streamer.errors import UsageError
from streamer.training.settings import FinetuneSettings, load_recipe

CLIPS = "clips"
app = typer.Typer(
    cls=default_command(CLIPS),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure models and configurations: `streamer eval MODEL DATA` judges by clips.\n\n"
    "Example: streamer eval ast-tiny clips.csv",
)

ClipsArgument = Annotated[
    Path, typer.Argument(metavar="CLIPS", help="A folder with labels.csv and audio/, as ESC-50 has it.")
]
RecordingsArgument = Annotated[
    list[Path], typer.Argument(metavar="WAV...", help="Recordings; NAME.tsv beside NAME.wav has the events.")
]
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Which sounds, with which rules.", metavar="FILE")
]
ModelOption = Annotated[str | None, typer.Option("--model", "-m", help="Instead of the configuration's.")]
FoldOption = Annotated[int, typer.Option(help="The fold that the model never saw.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="No progress bar, even on a terminal.")]
HOME = example("home")


@app.command(CLIPS)
def clips(
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
    engine: Annotated[
        Literal["auto", "torch", "onnx", "openvino"],
        typer.Option(help="What computes; auto measures those that are installed, once a model."),
    ] = "auto",
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

    recipe = recipe_at(Path(data))
    source = ClipsSettings(path=Path(data))
    examples = read_examples(source) if recipe is None else read_test(recipe.data)
    if out is not None and (why_not := plots.missing()):
        raise UsageError(why_not)
    if average is not None:
        report.average_models(models, average)
        models = [str(average)]
    try:
        settings = ModelSettings(device=device, dtype=dtype, engine=engine)
    except ValidationError:
        raise UsageError(f"--device is auto, cpu or cuda, not {device!r}") from None
    with bar(plain=plain) as progress:
        progress.begin("scoring clips", len(models) * len(examples))
        scored = report.score_clips(models, examples, settings, lambda: progress.advance(1))
        progress.end()
    result = judge(scored.scores, scored.truth, scored.labels)
    for reason in scored.skipped:
        typer.echo(f"skipped: {reason}", err=True)
    figures = report.as_json(result, {"models": models, "data": data, "n_skipped": len(scored.skipped)})
    typer.echo(figures if json else report.as_table(result, scored))
    if out is not None:
        for path in report.write(out, figures, scored):
            typer.echo(path, err=True)


@app.command()
def frames(
    recordings: RecordingsArgument,
    config: ConfigOption = HOME,
    model: ModelOption = None,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the scores over time there, as sed_scores_eval reads them."),
    ] = None,
) -> None:
    """Average precision of frame scores over the moments of recordings whose events are known.

    Example: streamer eval frames out/s201.wav out/s202.wav --scores out/scores
    """
    from streamer.evaluation.frames import report  # noqa: PLC0415  # loads torch

    typer.echo(report(recordings, load_config(config), model, scores))


@app.command()
def thresholds(
    recordings: RecordingsArgument,
    config: ConfigOption = HOME,
    model: ModelOption = None,
    scores: Annotated[Path, typer.Option(help="Folder that keeps scores for a second run.")] = Path(
        "out/scores"
    ),
) -> None:
    """Choose each sound's threshold for three profiles on recordings whose events are known; prints YAML.

    Example: streamer eval thresholds out/s201.wav out/s202.wav out/others.wav out/bed.wav
    """
    from streamer.evaluation.thresholds import report  # noqa: PLC0415  # loads torch

    typer.echo(report(load_config(config), recordings, model=model, scores=scores))


@app.command("false-alarms")
def false_alarms(
    folder: ClipsArgument,
    fold: FoldOption = 4,
    config: ConfigOption = HOME,
    model: ModelOption = None,
    minutes: Annotated[float, typer.Option(help="Length of each recording.")] = 60.0,
    seed: Annotated[int, typer.Option(help="Another one draws other recordings.")] = 1,
    bed: Annotated[
        list[Path] | None,
        typer.Option(metavar="CSV", help="Clips of music, speech and ambience; may be repeated."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the recordings there, and score nothing.")
    ] = None,
) -> None:
    """Count false events an hour: in noise, in clips of other sounds, in music, speech and ambience.

    Example: streamer eval false-alarms data/esc50-free --bed held-out.csv --seed 2
    """
    from streamer.evaluation import false_alarms as measured  # noqa: PLC0415  # loads torch

    settings = load_config(config)
    if keep is None:
        found = measured.report(
            settings, folder, fold=fold, model=model, minutes=minutes, seed=seed, bed_tables=bed or ()
        )
        typer.echo(found)
        return
    for recording in measured.recordings(settings, folder, fold, minutes, seed, bed or ()):
        typer.echo(measured.write(keep, recording))


@app.command()
def support(
    model: Annotated[str, typer.Argument(help="A directory or a model's name.")],
    folder: ClipsArgument,
    fold: FoldOption = 4,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="CSV", help="More clips: file, labels, source, unsure; may be repeated."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write sounds.json in the model's directory.")
    ] = False,
) -> None:
    """Which labels a model hears well, poorly, or nobody knows, on clips and synthesised sounds.

    Example: streamer eval support ast-tiny data/esc50-free --also held-out.csv
    """
    from streamer.evaluation.support import report  # noqa: PLC0415  # loads torch

    typer.echo(report(model, folder, fold=fold, also=also or (), write=write))


def recipe_at(path: Path) -> FinetuneSettings | None:
    """The recipe, if that is what a path names. Raises UsageError."""
    if path.suffix.lower() not in {".yaml", ".yml"}:
        return None
    settings = load_recipe(path)
    if not isinstance(settings, FinetuneSettings):
        raise UsageError(f"{path}: is no fine-tuning; name the clips themselves")
    return settings
