"""streamer bench: how fast, beside others, on this machine."""

from __future__ import annotations

import json
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.core.files import write_text

if TYPE_CHECKING:
    from streamer.evaluation.bench import Row


class Rival(StrEnum):
    TRANSFORMERS = "transformers"


def bench(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="What to measure; ast-tiny and, where torch is installed, ast-base (random weights) else.",
        ),
    ] = None,
    vs: Annotated[Rival | None, typer.Option("--vs", help="Measure this program as well.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="For all engines; 0: all CPUs.")] = 0,
    hop: Annotated[float, typer.Option("--hop", min=0.1, help="Seconds, for the count of sources.")] = 1.0,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds",
            min=1,
            help="How often each is run; the median counts. Three where that takes a minute.",
        ),
    ] = 5,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Batch sizes; 1 and 4 else.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the JSON object here as well.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure the engines that are installed, interleaved in one run, so that a busy machine is fair to all.

    Rows are shown as they are measured; Ctrl-C keeps what there is.

    Example: streamer bench --vs transformers
    """
    from dataclasses import asdict  # noqa: PLC0415

    from streamer.evaluation import bench as measure  # noqa: PLC0415

    asked = measure.Bench(
        vs_transformers=vs is Rival.TRANSFORMERS,
        device=device,
        threads=threads,
        hop_s=hop,
        rounds=rounds,
        batches=batch or [1, 4],
    )
    rates = measure.rates(asked)
    report = measure.about(asked, rates)
    found: list[Row] = []
    if not as_json:
        _head(report, hop)
    models = model or ["ast-tiny", *(["ast-base"] if find_spec("torch") else [])]
    try:
        for row in measure.rows(models, asked, rates, lambda line: typer.echo(line, err=True)):
            found.append(row)
            if not as_json:
                typer.echo(_line(*(_shown(getattr(row, name)) for name in COLUMNS)))
    finally:
        report["rows"] = [asdict(row) for row in found]
        if out is not None:
            write_text(out, json.dumps(report, indent=2) + "\n")
        if as_json:
            typer.echo(json.dumps(report))


COLUMNS = {
    "model": "model",
    "engine": "engine",
    "dtype": "dtype",
    "batch": "batch",
    "ms_a_window": "ms/window",
    "cpu_ms_a_window": "CPU ms",
    "matrix_share": "of rate",
    "sources": "sources",
    "peak_mb": "peak MB",
    "ratio": "x ours",
    "cpu_ratio": "x CPU",
    "rounds": "rounds",
}


def _head(report: dict[str, Any], hop: float) -> None:
    versions, rates = report["versions"].items(), report["matrix_tflops"].items()
    typer.echo(f"{report['date']}: {report['machine']}, {report['threads']} threads, load {report['load']}")
    typer.echo("matrix products: " + ", ".join(f"{rate} TFLOP/s in {name}" for name, rate in rates))
    typer.echo(", ".join(f"{name} {version}" for name, version in versions))
    typer.echo(
        f"From audio to scores, interleaved. Sources: at a hop of {hop:g} s. x ours: its time by that of the"
        " fastest of our engines, int8 apart."
    )
    typer.echo(_line(*COLUMNS.values()))


def _line(model: str, engine: str, dtype: str, *numbers: str) -> str:
    return f"{Path(model).name:<12} {engine:<12} {dtype:<8} " + " ".join(f"{number:>9}" for number in numbers)


def _shown(value: object) -> str:
    return "-" if value is None else str(value)


def register(app: typer.Typer) -> None:
    app.command()(bench)
