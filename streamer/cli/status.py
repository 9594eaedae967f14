"""streamer status: how the running daemon is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from streamer.config.schema import load_config
from streamer.ops.status import SYSTEM, ask, socket_path
from streamer.store.directory import state_directory

UNHEALTHY = 70


def status(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Of the daemon that is meant, where it is not the usual one.",
            metavar="FILE",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, for programs.")] = False,
) -> None:
    """Ask the running daemon how it is. Exit code 0 while all is well, 70 where not, 75 where none runs.

    Example: streamer status --config configs/home.yaml
    """
    state = state_directory(load_config(config).state_dir if config is not None else None)
    report = ask([socket_path(state), SYSTEM / "status.sock"])
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        for line in _lines(report):
            typer.echo(line)
    if not report["healthy"]:
        raise typer.Exit(UNHEALTHY)


def register(app: typer.Typer) -> None:
    app.command()(status)


def _lines(report: dict[str, Any]) -> list[str]:
    inference, outbox, latency = report["inference"], report["outbox"], report["latency_ms"]
    lines = [report["line"], f"up {_duration(report['uptime_s'])}"]
    for source_id, own in report["sources"].items():
        lines.append(
            f"{source_id:<16}{own['phase']:<12}{own['windows']} windows, {own['windows_skipped']} skipped, "
            f"{own['gap_s']:.1f} s lost, opened again {own['reopens']} times, {own['events']} events"
        )
        if own["problem"]:
            lines.append(f"{'':<16}{own['problem']}")
    lines.append(
        f"{'model':<16}{inference['device']}, {inference['ms_a_window'] or 0:.0f} ms a window, "
        f"restarted {inference['restarts']} times"
    )
    if latency["p50"] is not None:
        lines.append(f"{'latency':<16}{latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms")
    if (broker := report.get("broker")) is not None:
        lines.append(f"{'broker':<16}{broker['address']}: {broker['problem'] or 'connected'}")
    lines.append(
        f"{'event log':<16}{outbox['depth']} messages wait, {outbox['refused']} refused, "
        f"connected again {report['reconnects']} times"
    )
    for name, own in report.get("alerts", {}).items():
        problem = f"; {own['problem']}" if own["problem"] else ""
        lines.append(f"{'alerts':<16}{name}: {own['sent']} sent, {own['expired']} too old{problem}")
    if lost := report.get("log_lines_lost"):
        lines.append(f"{'log':<16}{lost} lines lost: its reader is too slow")
    return lines


def _duration(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} days {clock}" if days else clock
