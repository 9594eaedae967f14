"""The benchmark: one command, one table, every rival."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.cli import app
from streamer.evaluation.bench import flop
from streamer.model.config import ASTConfig
from tests.inference import models


def test_every_engine_has_a_row(tmp_path: Path) -> None:
    """Each engine is measured at each batch on the same audio; ours is what the others are compared with."""
    directory = models.directory(tmp_path / "small")
    command = ["bench", "-m", str(directory), "--vs", "transformers", "--device", "cpu", "--threads", "1"]

    done = CliRunner().invoke(
        app,
        [*command, "--rounds", "2", "--batch", "1", "--batch", "3", "--out", str(tmp_path / "bench.json")],
        catch_exceptions=False,
    )

    assert done.exit_code == 0
    assert "transformers" in done.stdout
    report = json.loads((tmp_path / "bench.json").read_text())
    engines = [(row["engine"], row["dtype"], row["batch"]) for row in report["rows"]]
    ours = report["rows"][0]["dtype"]
    assert engines == [
        (engine, dtype, batch)
        for batch in (1, 3)
        for engine, dtype in (("streamer", ours), ("transformers", "float32"), ("transformers", "bfloat16"))
    ]
    for row in report["rows"]:
        assert row["ms_a_window"] > 0
        assert row["windows_a_second"] == pytest.approx(1000 / row["ms_a_window"], rel=0.1)
        assert row["ratio"] == 1 or row["engine"] != "streamer"


def test_flop_of_the_published_size() -> None:
    """AST-base takes about 0.26 TFLOP a window."""
    assert flop(ASTConfig()) == pytest.approx(0.26e12, rel=0.02)
