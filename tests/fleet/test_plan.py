"""The sums for many microphones, against sums by hand; each figure has a source."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from streamer.cli import app
from streamer.cli.fleet import rows
from streamer.fleet.figures import FIGURES, MODELS
from streamer.fleet.plan import Load, plan

DOCS = Path(__file__).parents[2] / "docs" / "fleet.md"
SIZES = (10, 1_000, 100_000, 1_000_000)


def test_a_thousand_microphones() -> None:
    """One engine is enough, with one spare; FLAC is 18.7 kB a second each."""
    needs = plan(Load(1000, 1.0, 1800))
    assert (needs.cells, needs.engines, needs.spare_engines, needs.machines) == (1, 1, 1, 1)
    assert needs.audio_mbit_s == pytest.approx(149.6)
    assert needs.window_mbit_s == 0
    assert needs.windows_a_second == 1000
    assert needs.messages_a_second == pytest.approx(1000 * (30 / 3600 + 1 / 30))
    assert needs.memory_gb == pytest.approx(1000 * (20 * 16000 * 2 + 1.3e6) / 1e9 + 0.08 * needs.shards)


def test_a_million_microphones() -> None:
    """A hundred cells, each with eight engines and a spare: two machines, so windows are on the network."""
    needs = plan(Load(1_000_000, 1.0, 1800))
    assert (needs.cells, needs.engines, needs.spare_engines, needs.machines) == (100, 800, 100, 200)
    assert needs.window_mbit_s == pytest.approx(1e6 * 331_500 * 8e-6)


def test_silence_and_longer_hops_save_engines() -> None:
    """A share of 0.3 of the windows, or a hop of 2 s, needs so much less."""
    whole = plan(Load(100_000, 1.0, 1800))
    assert plan(Load(100_000, 1.0, 1800, scored=0.3)).engines <= 0.4 * whole.engines
    assert plan(Load(100_000, 2.0, 1800)).windows_a_second == whole.windows_a_second / 2


def test_alarms_cost_cores() -> None:
    """A fire alarm that all microphones hear is the dearest moment of the detector."""
    assert plan(Load(1000, 1.0, 1800, alarms=1.0)).cores > 2 * plan(Load(1000, 1.0, 1800)).cores


@settings(max_examples=200, deadline=None)
@given(
    microphones=st.integers(1, 5_000_000),
    hop_s=st.floats(0.1, 10),
    rate=st.floats(0.1, 1e5),
    scored=st.floats(0, 1),
)
def test_nothing_is_overcommitted(microphones: int, hop_s: float, rate: float, scored: float) -> None:
    """Engines and processes are at most as busy as the figures say, and cells as large."""
    needs = plan(Load(microphones, hop_s, rate, scored))
    assert needs.windows_a_second <= needs.engines * rate * FIGURES.busy.value * (1 + 1e-9)
    assert microphones <= needs.cells * FIGURES.cell.value
    assert microphones <= needs.shards * FIGURES.shard.value
    assert (needs.engines + needs.spare_engines) <= needs.machines * FIGURES.gpus_a_machine.value


def test_every_figure_has_a_source() -> None:
    """It was measured, chosen, assumed or estimated, or follows from another; the text says which."""
    for name, figure in [*FIGURES.rows(), *MODELS.items()]:
        assert figure.value > 0, name
        assert figure.unit, name
        assert len(figure.source) > 3, name


def test_the_table_of_the_documentation() -> None:
    """docs/fleet.md has what the command prints today."""
    columns = [rows(plan(Load(n, 1.0, MODELS["ast-base"].value))) for n in SIZES]
    text = DOCS.read_text(encoding="utf-8")
    for row in zip(*columns, strict=True):
        assert f"| {row[0][0]} | {' | '.join(value for _, value in row)} |" in text


def test_the_command(tmp_path: Path) -> None:
    """As text, as JSON, with the speed of a report of `streamer bench`, and with the figures."""
    report = tmp_path / "bench.json"
    report.write_text(
        json.dumps(
            {
                "machine": "a box",
                "rows": [
                    {"model": "mine", "engine": "torch", "windows_a_second": 40.0},
                    {"model": "mine", "engine": "openvino", "windows_a_second": 50.0},
                    {"model": "mine", "engine": "transformers", "windows_a_second": 90.0},
                ],
            }
        )
    )
    command = ["fleet", "plan", "--microphones", "100", "--hop", "1"]
    run = CliRunner().invoke
    told = json.loads(run(app, [*command, "--model", "mine", "--bench", str(report), "--json"]).stdout)
    assert told == {
        **asdict(plan(Load(100, 1.0, 50.0))),
        "engine_rate": 50.0,
        "engine_source": "measured: a box",
    }
    text = run(app, [*command, "--figures"]).stdout
    assert "engines, and spare ones" in text
    assert "measured: FLAC" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "mine"], "--rate"),
        (["--model", "mine", "--bench", "nowhere.json"], "nowhere.json"),
        (["--model", "mine", "--bench", "README.md"], "no report"),
        (["--hop", "0"], "--hop"),
        (["--scored", "2"], "--scored"),
    ],
)
def test_a_command_that_is_off(arguments: list[str], words: str) -> None:
    """It is said what to write instead."""
    outcome = CliRunner().invoke(app, ["fleet", "plan", "-n", "10", *arguments])
    assert outcome.exit_code != 0
    assert words in f"{outcome.output}{outcome.exception}"
