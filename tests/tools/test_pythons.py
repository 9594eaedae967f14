"""The Pythons that are tried are those that the project declares; one that does not run is a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import pythons


def test_what_is_declared_is_tried() -> None:
    """Each classifier of pyproject.toml, and nothing that is none."""
    lines = ("Programming Language :: Python :: 3", "Programming Language :: Python :: 3.10")
    pyproject = f"[project]\nclassifiers = {[*lines, 'Programming Language :: Python :: 3.9']}"
    assert pythons.supported(pyproject) == [(3, 9), (3, 10)]
    assert sys.version_info[:2] in pythons.supported(Path("pyproject.toml").read_text(encoding="utf-8"))


def test_a_python_by_name() -> None:
    """Its version, as it says it itself."""
    found = pythons.look_at(sys.executable)
    assert found is not None
    assert found.version == sys.version_info[:3]


def test_a_name_that_is_no_python(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said, and the command fails: a version that was asked for and not tried has not passed."""
    name = str(tmp_path / "python3.99")
    assert pythons.main([name]) == 1
    assert f"{name}: no Python that runs" in capsys.readouterr().err
