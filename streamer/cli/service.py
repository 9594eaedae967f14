"""streamer service: put the daemon under systemd on a Debian machine, and take it away again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import streamer
from streamer.cli.events import forget_at_broker
from streamer.cli.web import ask_password
from streamer.config.schema import Config, WebSettings, load_config
from streamer.config.sources import CommandSettings, StreamSettings
from streamer.core.addresses import is_loopback
from streamer.core.files import write_text
from streamer.errors import ConfigError, InputError, StreamerError, UsageError

app = typer.Typer(help="Run at boot, under systemd.", no_args_is_help=True, rich_markup_mode=None)

UNIT = "streamer.service"
GROWING_DELAY = 254
"""the systemd that can wait longer after each restart"""
CREDENTIALS = {
    "password": "etc/streamer/mqtt-password",
    "web-password": "etc/streamer/web-password",
    "alerts": "etc/streamer/alert-urls",
}
"""by drop-in: the file that root alone may read, and that it hands to the service"""
HOMES = ("/home/", "/root/")
"""the unit does not see them"""

RootOption = Annotated[
    Path,
    typer.Option(
        "--root", help="A Debian file system to prepare, where it is not this machine's.", metavar="DIR"
    ),
]


@app.command()
def install(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Becomes /etc/streamer/streamer.yaml.", metavar="FILE"),
    ] = None,
    cuda: Annotated[bool, typer.Option("--cuda", help="Give it the GPU as well.")] = False,
    page_password: Annotated[
        bool,
        typer.Option("--page-password", help="Ask for a password of the page, or read it from a pipe."),
    ] = False,
    root: RootOption = Path("/"),
) -> None:
    """Put unit and configuration in place, and start it. The user comes and goes with the service.

    Example: sudo /opt/streamer/bin/streamer service install --config configs/home.yaml
    """
    root = root.resolve()
    _refuse_elsewhere(root)
    program = _program()
    settings = root / "etc/streamer/streamer.yaml"
    if config is not None:
        _refuse_paths(config)
    elif not settings.exists():
        raise UsageError(f"{settings} does not exist: name a configuration with --config")
    web = load_config(config or settings).web
    if page_password:
        line = ask_password()
        _write(root / CREDENTIALS["web-password"], f"{line}\n", mode=0o600)
    elif not _has_password(root, web):
        raise ConfigError(
            f"web.host is {web.host}, and there is no password: --page-password asks for one; "
            "nothing was done"
        )
    unit = _source(UNIT).read_text(encoding="utf-8")
    _write(root / "etc/systemd/system" / UNIT, unit)
    drop_ins = {"cuda": cuda, "restart": _systemd_version() >= GROWING_DELAY}
    drop_ins |= {name: (root / path).exists() for name, path in CREDENTIALS.items()}
    folder = root / "etc/systemd/system" / f"{UNIT}.d"
    for name, wanted in drop_ins.items():
        if wanted:
            _write(folder / f"{name}.conf", _source(f"{name}.conf").read_text(encoding="utf-8"))
        else:
            (folder / f"{name}.conf").unlink(missing_ok=True)
    if f"ExecStart={program} " not in unit:
        _write(folder / "program.conf", _elsewhere(unit, program))
    if config is not None:
        _write(settings, config.read_text(encoding="utf-8"))
    _systemctl(root, "daemon-reload")
    _systemctl(root, "enable", UNIT)
    _systemctl(root, "restart", UNIT)
    typer.echo(f"installed. State: streamer service status   Log: journalctl -u {UNIT}")
    if web.enabled:
        typer.echo(f"The page: http://{web.host}:{web.port}/")


@app.command()
def uninstall(root: RootOption = Path("/")) -> None:
    """Stop it and take the unit away. Configuration and state stay, its devices in Home Assistant go.

    Example: sudo streamer service uninstall
    """
    root = root.resolve()
    _refuse_elsewhere(root)
    unit = root / "etc/systemd/system" / UNIT
    if not unit.exists():
        raise UsageError(f"{unit} does not exist: nothing is installed")
    _systemctl(root, "stop", UNIT)
    _systemctl(root, "disable", UNIT)
    _forget_at_broker(root / "etc/streamer/streamer.yaml")
    unit.unlink()
    shutil.rmtree(unit.with_name(f"{UNIT}.d"), ignore_errors=True)
    _systemctl(root, "daemon-reload")
    typer.echo(
        "uninstalled; /etc/streamer and /var/lib/private/streamer are still there: delete them if you like"
    )


@app.command()
def status() -> None:
    """Show its state in systemd. Exit code 3 where it does not run.

    Example: streamer service status
    """
    _refuse_without_systemd()
    done = subprocess.run(["systemctl", "--no-pager", "status", UNIT], check=False)
    raise typer.Exit(done.returncode)


def _forget_at_broker(settings: Path) -> None:
    """Delete its states and devices at the broker; one that cannot be reached does not keep the unit here."""
    try:
        config = load_config(settings)
        if config.mqtt.enabled and not config.mqtt.embedded:
            typer.echo(f"deleted {forget_at_broker(settings)} retained messages at the broker")
    except StreamerError as error:
        line = str(error).splitlines()[0]
        typer.echo(
            f"the broker still has its states and devices ({line}): when it can be reached, "
            f"streamer forget --broker --config {settings}",
            err=True,
        )


def _refuse_elsewhere(root: Path) -> None:
    """Raises UsageError where this would do harm or no good."""
    if not (root / "etc/debian_version").exists():
        raise UsageError("this is no Debian machine: systemd/README.md says what to put where")
    if root != Path("/"):
        return
    _refuse_without_systemd()
    if os.geteuid() != 0:
        raise UsageError("only root may do that: try it with sudo")


def _refuse_without_systemd() -> None:
    if not Path("/run/systemd/system").is_dir():
        raise UsageError("systemd does not run here (a container?): start `streamer run` by whatever does")


def _refuse_paths(config: Path) -> None:
    """Refuse a configuration with a file that the service will not find: it starts in /, and sees no home.

    Raises ConfigError, with a line for each.
    """
    wrong = []
    for key, path in _paths(load_config(config)):
        if not path.is_absolute():
            wrong.append(f"{config}: {key}: {path} is relative, and the service starts in /: write all of it")
        elif f"{path}/".startswith(HOMES):
            wrong.append(f"{config}: {key}: {path} is in a home directory, which the service does not see")
    if wrong:
        raise ConfigError(*wrong)


def _paths(config: Config) -> Iterator[tuple[str, Path]]:
    """The key and the path of each file or directory that a configuration names."""
    for name, source in config.sources.items():
        if isinstance(source, StreamSettings) and "://" not in source.stream:
            yield f"sources.{name}.stream", Path(source.stream)
        if isinstance(source, CommandSettings) and "/" in source.command[0]:
            yield f"sources.{name}.command", Path(source.command[0])
    model = Path(config.model.path)
    if config.model.path.startswith((".", "/", "~")) or model.is_dir():
        yield "model.path", model
    tls = config.mqtt.tls
    files = {"state_dir": config.state_dir, "mqtt.password_file": config.mqtt.password_file}
    files |= {f"web.{key}": getattr(config.web, key) for key in ("password_file", "guest_password_file")}
    if config.alerts is not None:
        files["alerts.urls_file"] = config.alerts.urls_file
    if config.gateway is not None:
        keys = [key for key in type(config.gateway).model_fields if key.endswith("_file")]
        files |= {f"gateway.{key}": getattr(config.gateway, key) for key in keys}
    if tls is not None:
        files |= {f"mqtt.tls.{key}": getattr(tls, key) for key in ("ca_file", "cert_file", "key_file")}
    yield from ((key, path) for key, path in files.items() if path is not None)


def _program() -> Path:
    """The installed command, where the service can reach it."""
    program = Path(sys.prefix) / "bin" / "streamer"
    if not program.exists():
        raise UsageError(
            f"{program} does not exist: install streamer into a virtual environment in /opt/streamer"
        )
    if str(program).startswith(HOMES):
        raise UsageError(
            f"{program} is in a home directory, which the service does not see: install it in /opt/streamer"
        )
    return program


def _elsewhere(unit: str, program: Path) -> str:
    """A drop-in for an installation in another place than the unit's."""
    command = re.search(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)
    arguments = command[1] if command else ""
    # The interpreter behind a virtual environment and the packages in it may lie in two places.
    places = sorted(
        {str(Path(sys.prefix)), str(Path(sys.base_prefix)), str(Path(streamer.__file__).parents[1])}
    )
    return f"[Service]\nExecStart=\nExecStart={program} {arguments}\nExecPaths={' '.join(places)}\n"


def _source(name: str) -> Path:
    """A file of systemd/, in the checkout or where the package was installed."""
    for folder in (
        Path(streamer.__file__).parents[1] / "systemd",
        Path(sys.prefix) / "share/streamer/systemd",
    ):
        if (folder / name).exists():
            return folder / name
    raise InputError(f"{name} is missing from this installation: install it anew")


def _has_password(root: Path, web: WebSettings) -> bool:
    """Whether the page may be served where the configuration says; the service would refuse to start."""
    return (
        not web.enabled
        or is_loopback(web.host)
        or web.password_file is not None
        or (root / CREDENTIALS["web-password"]).exists()
        or (root / "var/lib/private/streamer/web-password").exists()
    )


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    """For root to change and all to read, or as `mode` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text, mode=mode)
    path.chmod(mode)  # whatever the umask is
    typer.echo(f"wrote {path}")


def _systemd_version() -> int:
    output = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"systemd (\d+)", output)
    return int(version[1]) if version else 0


def _systemctl(root: Path, *command: str) -> None:
    """On a file system that is not this machine's, only enable what starts at boot."""
    if root != Path("/"):
        if command[0] not in ("enable", "disable"):
            return
        command = (f"--root={root}", *command)
    try:
        subprocess.run(["systemctl", "--quiet", *command], check=True)
    except subprocess.CalledProcessError as error:
        raise InputError(f"systemctl {' '.join(command)} failed with {error.returncode}: see above") from None
