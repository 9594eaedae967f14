"""The benchmark: one command, one table, every rival."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.cli import app
from streamer.errors import ModelError
from streamer.evaluation.bench import OWN, flop
from streamer.model.config import ASTConfig
from tests.inference import models


def test_every_engine_has_a_row(tmp_path: Path) -> None:
    """Each is measured at each batch on the same audio; the fastest of ours is what all are compared with."""
    directory = models.directory(tmp_path / "small")
    command = ["bench", "-m", str(directory), "--vs", "transformers", "--device", "cpu", "--threads", "1"]

    done = CliRunner().invoke(
        app,
        [*command, "--rounds", "2", "--batch", "1", "--batch", "3", "--out", str(tmp_path / "bench.json")],
        catch_exceptions=False,
    )

    assert done.exit_code == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    shown = [line.split()[:4] for line in done.stdout.splitlines() if line.startswith("small ")]
    assert shown == [["small", row["engine"], row["dtype"], str(row["batch"])] for row in report["rows"]]
    for batch in (1, 3):
        rows = [row for row in report["rows"] if row["batch"] == batch]
        engines = {(row["engine"], row["dtype"]) for row in rows}
        assert engines >= {
            ("torch", "float32"),
            ("onnx", "float32"),
            ("onnx", "int8"),
            ("transformers", "float32"),
        }
        assert len(engines) == len(rows), "none is measured twice"
        fastest = min(
            (row for row in rows if row["engine"] in OWN and row["dtype"] != "int8"),
            key=lambda row: row["ms_a_window"],
        )
        assert fastest["ratio"] == 1
    for row in report["rows"]:
        assert row["rounds"] == 2
        assert row["windows_a_second"] == pytest.approx(1000 / row["ms_a_window"], rel=0.1)
        assert (row["matrix_share"] is None) is (row["dtype"] not in report["matrix_tflops"])


def test_rows_come_as_they_are_measured(tmp_path: Path) -> None:
    """Where the run ends early, what was measured is shown, and written."""
    directory = models.directory(tmp_path / "small")
    out = tmp_path / "bench.json"
    command = ["bench", "-m", str(directory), "-m", str(tmp_path / "none"), "--rounds", "1", "--batch", "1"]

    done = CliRunner().invoke(app, [*command, "--device", "cpu", "--threads", "1", "--out", str(out)])

    assert isinstance(done.exception, ModelError)
    assert sum(line.startswith("small ") for line in done.stdout.splitlines()) >= 3
    assert len(json.loads(out.read_text())["rows"]) >= 3


def test_flop_of_the_published_size() -> None:
    """AST-base takes about 0.26 TFLOP a window."""
    assert flop(ASTConfig()) == pytest.approx(0.26e12, rel=0.02)
