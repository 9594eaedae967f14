"""streamer fleet: what many microphones need, who listens to which, and the cluster that scores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from streamer.config.schema import Config, FleetSettings, load_config
from streamer.config.sources import NodeSettings
from streamer.errors import ConfigError, InputError, UsageError
from streamer.fleet.figures import FIGURES, MODELS
from streamer.fleet.plan import Load, Plan
from streamer.fleet.plan import plan as make_plan
from streamer.fleet.shards import part_of, shard_of

app = typer.Typer(
    help="Many microphones: what they need, who listens to which, and the cluster that scores.",
    no_args_is_help=True,
)
ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="A configuration with a section `fleet`.", metavar="FILE")
]

RIVALS = ("transformers",)
"""engines in the reports of `streamer bench` that `streamer run` has not"""


@app.command()
def plan(
    microphones: Annotated[int, typer.Option("--microphones", "-n", min=1, help="How many.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help=f"{', '.join(MODELS)}, or one of the report of --bench.")
    ] = "ast-base",
    hop: Annotated[float, typer.Option("--hop", min=0.1, max=10, help="Seconds between windows.")] = 1.0,
    bench: Annotated[
        Path | None,
        typer.Option("--bench", help="A report of `streamer bench --out`: the engine's speed there."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.01, help="Windows a second of one engine.")
    ] = None,
    scored: Annotated[
        float, typer.Option("--scored", min=0.0, max=1.0, help="Share of windows that pass the silence gate.")
    ] = 1.0,
    alarms: Annotated[
        float, typer.Option("--alarms", min=0.0, max=1.0, help="Share of microphones that hear an alarm.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    figures: Annotated[bool, typer.Option("--figures", help="Print the figures and their sources.")] = False,
) -> None:
    """Say which bandwidth, engines, cores, memory and brokers so many microphones need.

    Example: streamer fleet plan --microphones 1000000 --model ast-base --hop 1
    """
    speed, source = _speed(model, bench, rate)
    needs = make_plan(Load(microphones, hop, speed, scored, alarms))
    if as_json:
        typer.echo(json.dumps({**asdict(needs), "engine_rate": speed, "engine_source": source}))
    else:
        for name, value in rows(needs):
            typer.echo(f"{name:<42} {value}")
        typer.echo(f"{'one engine':<42} {speed:g} windows/s; {source}")
    if figures:
        for name, figure in FIGURES.rows():
            typer.echo(f"{name:<16} {figure.value:>10g} {figure.unit}; {figure.source}")


@app.command()
def shards(
    config: Annotated[
        Path, typer.Option("--config", "-c", help="The configuration of all shards.", metavar="FILE")
    ],
    of: Annotated[int, typer.Option(min=1, max=1000, help="Number of shards.")],
) -> None:
    """Say which shard listens to which source, and at which port it waits for nodes: one line a source.

    Example: streamer fleet shards --config configs/home.yaml --of 2
    """
    whole = load_config(config)
    for source_id, source in whole.sources.items():
        shard = shard_of(source_id, of)
        where = ""
        if isinstance(source, NodeSettings) and (gateway := part_of(whole, shard, of).gateway) is not None:
            where = f"  node {source.node} at port {gateway.port}"
        typer.echo(f"{shard}/{of}  {source_id}{where}")


@app.command()
def check(config: ConfigFile) -> None:
    """Try the cluster. Exit code 78 where it takes calls without the token or not with it, 75 where none is.

    Example: streamer fleet check --config fleet.yaml
    """
    settings = _connected(load_config(config))
    typer.echo(f"{settings.address}: takes this token, and no call without one; {_machines()}")


@app.command()
def status(config: ConfigFile) -> None:
    """Say what the cluster has, and which models run there.

    Example: streamer fleet status --config fleet.yaml
    """
    from streamer.inference.ray import applications  # noqa: PLC0415  # what is not asked for is not loaded

    loaded = load_config(config)
    settings = _connected(loaded)
    typer.echo(f"{settings.address:<20} {_machines()}")
    own = _application(settings, loaded)
    states = applications.states()
    for name, state in ({own: "does not run"} | dict(states)).items():
        typer.echo(f"{name:<20} {state}{'' if name == own else '; not of this configuration'}")


@app.command()
def drain(
    config: ConfigFile,
    every: Annotated[
        bool, typer.Option("--all", help="Of other configurations and versions of this program, too.")
    ] = False,
) -> None:
    """End the replicas of the configuration's model, after what they have. A running daemon starts new ones.

    Example: streamer fleet drain --config fleet.yaml
    """
    from streamer.inference.ray import applications  # noqa: PLC0415

    loaded = load_config(config)
    own = _application(_connected(loaded), loaded)
    names = [name for name in applications.states() if every or name == own]
    applications.drain(names)
    typer.echo(f"ended: {', '.join(names) or 'nothing, none runs'}")


def _connected(config: Config) -> FleetSettings:
    from streamer.inference.ray import cluster  # noqa: PLC0415

    if config.fleet is None:
        raise ConfigError("fleet: this configuration has no such section: docs/fleet.md")
    cluster.connect(config.fleet)
    return config.fleet


def _machines() -> str:
    from streamer.inference.ray import cluster  # noqa: PLC0415

    return f"Ray {cluster.version()}, {cluster.machines()}"


def _application(fleet: FleetSettings, config: Config) -> str:
    from streamer.inference.ray import applications  # noqa: PLC0415
    from streamer.run.model import heads_of  # noqa: PLC0415

    return applications.application(fleet, config.model, None, heads_of(config))


def rows(needs: Plan) -> list[tuple[str, str]]:
    """Names and values for people."""
    return [
        ("cells, which share nothing", f"{needs.cells:,}"),
        ("shards, one process each", f"{needs.shards:,}"),
        ("windows to score a second", f"{needs.windows_a_second:,.0f}"),
        ("audio from the microphones", _rate(needs.audio_mbit_s)),
        ("windows between machines of a cell", _rate(needs.window_mbit_s)),
        ("engines, and spare ones", f"{needs.engines:,} + {needs.spare_engines:,}"),
        ("machines of engines", f"{needs.machines:,}"),
        ("cores of shards", f"{needs.cores:,.2f}" if needs.cores < 10 else f"{needs.cores:,.0f}"),
        ("memory of shards", f"{needs.memory_gb:,.1f} GB"),
        ("messages a second, cores of brokers", f"{needs.messages_a_second:,.1f}, {needs.broker_cores:,.3f}"),
    ]


def _rate(mbit_s: float) -> str:
    for unit in ("Mb/s", "Gb/s"):
        if mbit_s < 1000:
            return f"{mbit_s:.3g} {unit}"
        mbit_s /= 1000
    return f"{mbit_s:.3g} Tb/s"


def _speed(model: str, bench: Path | None, rate: float | None) -> tuple[float, str]:
    """Windows a second of one engine, and where that comes from. Raises UsageError, InputError."""
    if rate is not None:
        return rate, "as given by --rate"
    if bench is None:
        if model not in MODELS:
            raise UsageError(
                f"--model {model}: its speed is not known; measure it with streamer bench, or give --rate"
            )
        known = MODELS[model]
        return known.value, f"{known.unit.removeprefix('windows/s of ')}, {known.source}"
    try:
        report = json.loads(bench.read_bytes())
        speeds = {
            str(row["model"]): float(row["windows_a_second"])
            for row in sorted(report["rows"], key=lambda row: float(row["windows_a_second"]))
            if row["engine"].lower() not in RIVALS
        }
    except OSError as error:
        raise InputError(f"{bench}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{bench}: this is no report of `streamer bench --out`") from error
    if speeds.get(model, 0.0) <= 0:
        raise UsageError(f"--model {model}: {bench} has {', '.join(sorted(speeds)) or 'none'}")
    return speeds[model], f"measured: {report.get('machine', 'machine unknown')}"
