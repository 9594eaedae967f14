"""The wheel that people install, built without a network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = ("streamer", "configs", "systemd", "pyproject.toml", "README.md", "LICENSE")
EXPECTED = {
    "streamer/web/static/app.js",
    "streamer/web/static/vendor/lit.js",
    "streamer/web/static/vendor/LICENSE.lit",
    "streamer/web/answers.json",
    "streamer/language/page/de.yaml",
    "streamer/language/de.yaml",
    "streamer/config/examples/quickstart.yaml",
}


@pytest.mark.slow
def test_everything_is_in_the_wheel(tmp_path: Path) -> None:
    """Each file of the package, code or not: the page, its licences, examples, languages, model."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / name, tree / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([*build, "--wheel-dir", tmp_path, tree], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("streamer/")}
    files = {
        path.relative_to(ROOT).as_posix()
        for folder in (ROOT / "streamer", ROOT / "streamer/config/examples")  # a link is not followed
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == files
    assert packed >= EXPECTED
    assert any(name.startswith("streamer/model/assets/") for name in packed)
