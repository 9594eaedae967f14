"""streamer models: which are here, fetching, checking and converting them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from streamer.core.printable import printable
from streamer.errors import UsageError

app = typer.Typer(help="Models: list, pull, add, info, verify, convert, export.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="A name of `streamer models list`, or a directory.")]


@app.command("list")
def list_models() -> None:
    """Show the models that are here and those that are known.

    Example: streamer models list
    """
    from streamer.model import hub  # noqa: PLC0415  # keeps the command's start quick

    here = hub.installed()
    typer.echo(f"here ({hub.models_directory()}):")
    for name in here:
        typer.echo(f"  {printable(name)}")
    typer.echo("known, to be pulled:")
    for name, note in hub.KNOWN.items():
        if name not in here:
            typer.echo(f"  {name}  {note.about}")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A name of the Hub, such as those of `streamer models list`.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="A commit, tag or branch; where not set, the pinned one.")
    ] = None,
) -> None:
    """Fetch a model from the Hub, check it and keep it; from then on it works offline.

    Example: streamer models pull MIT/ast-finetuned-audioset-10-10-0.4593
    """
    from streamer.model import hub, manifest  # noqa: PLC0415

    directory = hub.pull(name, revision)
    record = manifest.read(directory)
    commit = record.revision if record else ""
    typer.echo(f"{name}: in {directory}; use it with model: path: {name}")
    typer.echo(f"it is commit {printable(commit)}; to have the same again: --revision {printable(commit)}")


@app.command()
def add(
    directory: Annotated[Path, typer.Argument(help="A model directory.", exists=True, file_okay=False)],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it; its folder's name else.")
    ] = None,
) -> None:
    """Check a model directory and copy it to the others, under a name.

    Example: streamer models add ~/fine-tuned --name my-sounds
    """
    from streamer.model import hub  # noqa: PLC0415

    name = name or directory.resolve().name
    typer.echo(f"{name}: in {hub.add(directory, name)}; use it with model: path: {name}")


@app.command()
def info(
    model: NameArgument = "ast-tiny",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a model is: its shape, its labels, where it came from.

    Example: streamer models info ast-tiny
    """
    from streamer.model import hub  # noqa: PLC0415

    values = hub.info(hub.resolve(model))
    if as_json:
        typer.echo(json.dumps(values, ensure_ascii=False))
        return
    for name, value in values.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        typer.echo(f"{name:16} {printable(text)}")


@app.command()
def verify(model: NameArgument = "ast-tiny") -> None:
    """Check a model: hashes, shapes, label count, finite scores on noise.

    Example: streamer models verify MIT/ast-finetuned-audioset-10-10-0.4593
    """
    from streamer.config.schema import ModelSettings  # noqa: PLC0415
    from streamer.inference.engines import open_engine  # noqa: PLC0415
    from streamer.model import hub, manifest  # noqa: PLC0415

    directory = hub.resolve(model)
    hashed = manifest.check(directory)
    # An engine loads, which checks shapes and labels, and scores noise, which checks that it is finite.
    engine = open_engine(ModelSettings(path=str(directory), engine="onnx", device="cpu", dtype="float32"))
    files = f"{hashed} files match their SHA-256" if hashed else "no SHA-256 was recorded"
    typer.echo(f"{model}: fine; {files}; {len(engine.labels)} labels; scores of noise are finite")


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth of the authors' code.")],
    directory: Annotated[Path, typer.Argument(help="The model directory to write.")],
    labels: Annotated[
        Path | None, typer.Option("--labels", help="A text file, one label a line, where not a known set.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Of patches, in mel bins and frames.")
    ] = None,
    max_length: Annotated[int | None, typer.Option("--max-length", help="Frames of a window.")] = None,
) -> None:
    """Make a model directory of a checkpoint; nothing in the checkpoint is run.

    Example: streamer models convert audioset_10_10_0.4593.pth ast-base
    """
    from streamer.model import convert as converter  # noqa: PLC0415

    converter.convert(checkpoint, directory, labels=labels, stride=stride, max_length=max_length)
    typer.echo(f"{directory}: written; try it with: streamer models verify {directory}")


@app.command()
def export(
    model: NameArgument = "ast-tiny",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file; model.onnx beside the weights else.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Layers of eight bits, for ONNX Runtime alone; model-int8.onnx.")
    ] = False,
) -> None:
    """Write a model as ONNX, for other programs: `streamer run` makes its own graph from the weights.

    Input: features (B, T, M), as preprocessor_config.json says; outputs: scores, and frames if it has any.

    Example: streamer models export ast-tiny --out ast-tiny.onnx
    """
    from streamer.core.files import writing  # noqa: PLC0415
    from streamer.model import hub, weights  # noqa: PLC0415
    from streamer.model.onnx_graph import make_file  # noqa: PLC0415

    directory = hub.resolve(model)
    path = out or directory / ("model-int8.onnx" if int8 else "model.onnx")
    content = make_file(weights.load(directory), int8=int8)
    try:
        with writing(path) as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    typer.echo(f"{path}: {len(content) / 1e6:.1f} MB")
