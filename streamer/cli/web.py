"""streamer web: the passwords of the page, and what its server answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamer.cli.events import ConfigOption
from streamer.config.schema import Config, load_config
from streamer.core.files import write_text
from streamer.errors import StreamerError, UsageError
from streamer.store.directory import state_directory

app = typer.Typer(no_args_is_help=True, help="The page: who may sign in, and do what.")


@app.callback()
def _page() -> None:
    pass


@app.command(epilog="Example: streamer web password --config configs/home.yaml")
def password(
    config: ConfigOption = None,
    guest: Annotated[
        bool, typer.Option("--guest", help="The password of guests, who may look and change nothing.")
    ] = False,
) -> None:
    """Set the password of the page. Whoever is signed in has to sign in again.

    It is asked for, or read from a pipe, and kept as a hash.
    """
    from streamer.web.sessions import password_path  # noqa: PLC0415  # the server is not needed to start

    settings = None if config is None else load_config(config)
    path = password_path(
        *(_guest_of(settings) if guest else _owner_of(settings)),
        state_directory(None if settings is None else settings.state_dir),
    )
    line = ask_password()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(path, f"{line}\n", mode=0o600)
    except OSError as error:
        raise StreamerError(f"{path}: the password was not changed: {error.strerror}") from None
    typer.echo(f"{path}: written. It holds at once, also for a daemon that runs.")


@app.command(epilog="Example: streamer web routes | grep -v look")
def routes() -> None:
    """List what the page's server answers: method, path, and the scope that it needs."""
    from streamer.run.page import every_route  # noqa: PLC0415  # the server is not needed to start

    for route in every_route():
        for method in sorted((route.methods or set()) - {"HEAD"}):
            typer.echo(f"{method:<7} {route.path:<48} {route.needs or 'everybody'}")


def ask_password() -> str:
    """The hash of a password that is asked for, or read from a pipe. Raises UsageError, ConfigError."""
    from streamer.web.sessions import hashed  # noqa: PLC0415  # the server is not needed to start

    return hashed(_ask() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n"))


def _owner_of(settings: Config | None) -> tuple[Path | None, str]:
    return None if settings is None else settings.web.password_file, "web-password"


def _guest_of(settings: Config | None) -> tuple[Path | None, str]:
    return None if settings is None else settings.web.guest_password_file, "web-guest-password"


def _ask() -> str:
    chosen: str = typer.prompt("Password", hide_input=True)
    if typer.prompt("Again", hide_input=True) != chosen:
        raise UsageError("the two are not the same; nothing was changed")
    return chosen
