"""streamer bench: how fast, beside others, on this machine."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streamer.core.files import write_text


class Rival(StrEnum):
    TRANSFORMERS = "transformers"
    OPENVINO = "openvino"


def bench(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="What to measure; ast-tiny and ast-base (random weights) else."),
    ] = None,
    vs: Annotated[list[Rival] | None, typer.Option("--vs", help="Measure this one as well.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="For all engines; 0: torch's own.")] = 0,
    hop: Annotated[float, typer.Option("--hop", min=0.1, help="Seconds, for the count of sources.")] = 1.0,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="How often each is run; the median counts.")
    ] = 5,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Batch sizes; 1 and 4 else.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the JSON object here as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure speed in one run, interleaved with the rivals, so that a busy machine is fair to all.

    Example: streamer bench --vs transformers --vs openvino
    """
    from streamer.evaluation import bench as measure  # noqa: PLC0415  # loads torch

    report = measure.run(
        models=model or ["ast-tiny", "ast-base"],
        rivals=[rival.value for rival in vs or []],
        device=device,
        threads=threads,
        hop_s=hop,
        rounds=rounds,
        batches=batch or [1, 4],
        progress=lambda line: typer.echo(line, err=True),
    )
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")
    if as_json:
        typer.echo(json.dumps(report))
        return
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    typer.echo(f"{report['date']}: {report['machine']}, {report['threads']} threads, load {report['load']}")
    typer.echo(f"{report['matrix_tflops']} TFLOP/s of bfloat16 matrix products")
    typer.echo(f"{versions}; from audio to scores, in one run, interleaved")
    columns = {
        "model": "model",
        "engine": "engine",
        "dtype": "dtype",
        "batch": "batch",
        "ms_a_window": "ms a window",
        "windows_a_second": "windows/s",
        "real_time_factor": "real-time factor",
        "matrix_share": "of matrix rate",
        "sources": f"sources at a hop of {hop:g} s",
        "peak_mb": "peak MB",
        "cpu_ms_a_window": "CPU ms a window",
        "ratio": "beside ours",
        "cpu_ratio": "in CPU time",
    }
    table = Table(*columns.values())
    for row in report["rows"]:
        table.add_row(*(str(row[name]) for name in columns))
    Console(width=None if Console().is_terminal else 160).print(table)


def register(app: typer.Typer) -> None:
    app.command()(bench)
