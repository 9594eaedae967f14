"""`streamer models`: what is fetched or added works from then on, and what is wrong is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from streamer.cli.models import app
from streamer.errors import ModelError
from streamer.model import hub
from tests.inference import models
from tests.model.hub_server import COMMIT, Hub, published, serve
from tests.model.test_convert import authors_weights

pytestmark = pytest.mark.slow

NAME = "somebody/small-ast"
DEADLINE_S = 240.0
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.directory(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where models are kept."""
    monkeypatch.setenv("STREAMER_MODELS", str(tmp_path / "kept"))
    return tmp_path / "kept"


def _fine(*arguments: str) -> str:
    """What the command prints."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def _refused(*arguments: str) -> str:
    """The one line that the command ends with."""
    with pytest.raises(ModelError) as caught:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _not_pulled(name: str, endpoint: str) -> str:
    """The one line that says why."""
    with pytest.raises(ModelError) as caught:
        hub.pull(name, endpoint=endpoint)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pull_then_offline(directory: Path, home: Path) -> None:
    """A pulled model is pinned, verified, listed and loaded by its name with no Hub in reach."""
    with serve(published(directory, NAME)) as server:
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "models", "pull", NAME],
            env={**os.environ, "HF_ENDPOINT": server.endpoint},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert f"--revision {COMMIT}" in done.stdout

    assert NAME in _fine("list")
    assert "4 files match" in _fine("verify", NAME)
    values = json.loads(_fine("info", NAME, "--json"))
    assert (values["source"], values["revision"], values["n_labels"]) == (NAME, COMMIT, 7)
    assert [path.name for path in home.iterdir()] == ["somebody--small-ast"]


def test_a_commit_is_pinned(directory: Path, home: Path) -> None:
    """A commit that is asked for is the one that is kept and recorded, or nothing is."""
    other = "f" * 40
    with serve(published(directory, NAME)) as server:
        with pytest.raises(ModelError, match=f"asked for the commit {other}, the Hub answered with {COMMIT}"):
            hub.pull(NAME, other, endpoint=server.endpoint)
        assert not server.served
        hub.pull(NAME, COMMIT, endpoint=server.endpoint)
    assert json.loads(_fine("info", NAME, "--json"))["revision"] == COMMIT


def test_an_interrupted_pull_resumes(directory: Path, home: Path) -> None:
    """Where the connection breaks, what has arrived is not fetched again."""
    # The client counts what has arrived in pieces of 10 MB.
    big = models.directory(home.parent / "big", hidden_size=256, intermediate_size=6000)
    with serve(published(big, NAME)) as server:
        server.break_after = 12_000_000
        hub.pull(NAME, endpoint=server.endpoint)
        starts = [int(line.split()[-1]) for line in server.served if line.startswith("model.safetensors")]

    assert "4 files match" in _fine("verify", NAME)
    assert max(starts) > 0, "it went on where it was cut"


def test_what_arrives_otherwise_than_published(directory: Path, home: Path) -> None:
    """A file that is not the published one is refused, and not kept."""
    server = published(directory, NAME)
    server.announced["model.safetensors"] = server.files["model.safetensors"][:-1] + b"?"
    with serve(server):
        assert "did not arrive as it was published" in _not_pulled(NAME, server.endpoint)
    assert not list(home.iterdir())


def test_a_pickle_is_not_pulled(directory: Path, home: Path) -> None:
    """A model that is published as a pickle alone is not fetched; the line says what to do."""
    files = {"config.json": (directory / "config.json").read_bytes(), "pytorch_model.bin": b"\x80\x02."}
    with serve(Hub(NAME, files)) as server:
        assert "has no safetensors" in _not_pulled(NAME, server.endpoint)
        assert not server.served


def test_no_such_model(directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the Hub does not know, no Hub at all, and no name: one line each."""
    with serve(published(directory, NAME)) as server:
        assert "some/other: cannot be fetched" in _not_pulled("some/other", server.endpoint)
    assert f"{NAME}: cannot be fetched" in _not_pulled(NAME, UNREACHABLE)
    assert "a b: cannot be fetched" in _not_pulled("a b", UNREACHABLE)


def test_add(directory: Path, home: Path) -> None:
    """A directory that was added is loaded by its name, and the name is taken from then on."""
    assert hub.add(directory, "mine") == home / "mine"

    assert hub.resolve("mine") == home / "mine"
    assert "mine" in hub.installed()
    for name in ("mine", "ast-tiny", ".hidden", ""):
        with pytest.raises(ModelError):
            hub.add(directory, name)


def test_a_broken_directory_is_not_added(home: Path, tmp_path: Path) -> None:
    """What cannot be loaded is not kept."""
    with pytest.raises(ModelError, match=r"config\.json: no such file"):
        hub.add(tmp_path, "mine")
    assert not home.exists()


def test_a_link_out_of_a_model_is_not_followed(directory: Path, home: Path, tmp_path: Path) -> None:
    """What the model's maker may not read is not copied for all to read."""
    linked = Path(shutil.copytree(directory, tmp_path / "linked"))
    (linked / "preprocessor_config.json").rename(tmp_path / "preprocessor_config.json")
    (linked / "preprocessor_config.json").symlink_to(tmp_path / "preprocessor_config.json")
    with pytest.raises(ModelError, match="is a link to a file outside of the model"):
        hub.add(linked, "linked")
    assert not list(home.rglob("preprocessor_config.json"))


def test_tampering_is_found(directory: Path, home: Path) -> None:
    """A bit that has changed since the model was added keeps it from being used."""
    path = hub.add(directory, "mine") / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)

    assert "model.safetensors: is not the file that was recorded" in _refused("verify", "mine")


def test_what_a_name_means(directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a path, a known name says how to fetch it, anything else where to look."""
    monkeypatch.chdir(directory.parent)
    assert hub.resolve("small") == Path("small")
    assert hub.resolve(str(directory)) == directory
    with pytest.raises(ModelError, match=r"streamer models pull MIT/ast-finetuned-audioset-10-10-0\.4593"):
        hub.resolve("MIT/ast-finetuned-audioset-10-10-0.4593")
    with pytest.raises(ModelError, match="streamer models list"):
        hub.resolve("nothing")
    with pytest.raises(ModelError, match="is a file"):
        hub.resolve(str(directory / "config.json"))


def test_convert(tmp_path: Path, home: Path) -> None:
    """A checkpoint becomes a directory that can be verified."""
    torch.save(authors_weights(35, 144), tmp_path / "words.pth")

    _fine("convert", str(tmp_path / "words.pth"), str(tmp_path / "words"))

    assert "35 labels" in _fine("verify", str(tmp_path / "words"))
