"""streamer config: the schema, the reference and the examples of configurations."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Annotated

import typer

from streamer.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Schema, reference and examples of configurations.")


@app.command(epilog="Example: streamer config schema > schema.json")
def schema(
    recipe: Annotated[bool, typer.Option("--recipe", help="Of training recipes instead.")] = False,
) -> None:
    """Print the JSON Schema, with which editors complete and check the file."""
    from streamer.config.reference import json_schema  # noqa: PLC0415  # only this command needs it

    if recipe:
        from streamer.training.settings import FinetuneSettings  # noqa: PLC0415

        typer.echo(json.dumps(json_schema(FinetuneSettings), indent=1))
    else:
        typer.echo(json.dumps(json_schema(), indent=1))


@app.command(epilog="Example: streamer config docs > docs/configuration.md")
def docs() -> None:
    """Print the reference of all keys, as Markdown."""
    from streamer.config.reference import page  # noqa: PLC0415  # only this command needs it

    typer.echo(page())


@app.command(epilog="Example: streamer config example home > my.yaml")
def example(
    name: Annotated[str, typer.Argument(help="home, for example; without a name, their list.")] = "",
) -> None:
    """Print an example to begin with."""
    folder = files("streamer.config") / "examples"
    entries = [*folder.iterdir(), *(folder / "capture").iterdir()]
    known = {entry.name.removesuffix(".yaml"): entry for entry in entries if entry.name.endswith(".yaml")}
    if not name:
        typer.echo("\n".join(sorted(known)))
    elif name in known:
        typer.echo(known[name].read_text(encoding="utf-8"), nl=False)
    else:
        raise InputError(f"no example is called {name!r}; there are: {', '.join(sorted(known))}")
