"""The library of the page, which is made from the npm registry and committed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "streamer/web/static/vendor"


@pytest.mark.slow
def test_the_library_is_what_its_versions_give(tmp_path: Path) -> None:
    """Made anew it has the same bytes: nobody has changed what everybody's browser runs."""
    subprocess.run([ROOT / "scripts/vendor", tmp_path], check=True, timeout=600)

    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    assert files(tmp_path) == files(COMMITTED)
