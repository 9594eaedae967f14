"""The command: one file a group of subcommands; heavy imports happen inside them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Annotated

import typer

from streamer import __version__
from streamer.cli import (
    addon,
    bench,
    calibrate,
    capture,
    config,
    discover,
    evaluation,
    events,
    explain,
    files,
    fleet,
    listening,
    models,
    replay,
    service,
    status,
    store,
    teach,
    training,
    web,
)
from streamer.core.open_files import allow_open_files
from streamer.core.printable import printable
from streamer.errors import UsageError, for_people

app = typer.Typer(
    help="Detects sounds, their beginnings and ends, and publishes them to MQTT.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_USAGE = 2  # what click exits with where the command line is off
_EXTRAS = {"torch": "torch", "matplotlib": "train"}
"""the extra of this package that brings what a light installation does not have"""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


listening.register(app)
capture.register(app)
files.register(app)
explain.register(app)
app.add_typer(config.app, name="config")
app.add_typer(models.app, name="models")
bench.register(app)
status.register(app)
calibrate.register(app)
discover.register(app)
events.register(app)
replay.register(app)
app.add_typer(store.app, name="store")
app.add_typer(web.app, name="web")
app.add_typer(teach.app, name="teach")
app.add_typer(training.app, name="train")
app.add_typer(evaluation.app, name="eval")
app.add_typer(fleet.app, name="fleet")
app.add_typer(service.app, name="service")
addon.register(app)


def _unraisable(lost: sys.UnraisableHookArgs) -> None:
    """Ctrl-C that was raised where nothing can be, as in a callback while a module loads: it comes again."""
    if lost.exc_type is KeyboardInterrupt:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(lost)


def main() -> None:
    """Run the command. Errors for people become one line and the exit code that `errors` documents."""
    sys.unraisablehook = _unraisable
    try:
        allow_open_files()
        app()
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        extra = _EXTRAS[error.name]
        print(f"streamer: this needs {error.name}: pip install 'streamer[{extra}]'", file=sys.stderr)
        sys.exit(UsageError.exit_code)
    except SystemExit as stop:
        sys.exit(UsageError.exit_code if stop.code == _USAGE else stop.code)
    except Exception as error:
        known = for_people(error)
        if known is None:
            raise
        lines = "\n".join(map(printable, str(known).split("\n")))
        print(f"streamer: {lines}", file=sys.stderr)
        sys.exit(known.exit_code)
