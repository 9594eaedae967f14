"""Each source has one shard, which all processes agree on, and which stays while others are added."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from streamer.cli import app
from streamer.config.schema import Config, load_config
from streamer.errors import ConfigError
from streamer.fleet.shards import part_of, shard_of

SOURCES = [f"room{i}" for i in range(2000)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "all.yaml"
    config = {
        "node": "house",
        "state_dir": str(tmp_path / "state"),
        "sources": {name: {"node": f"pi-{name}"} for name in SOURCES[:40]},
        "sounds": {"bell": {"labels": ["Bell"]}},
        "gateway": {"port": 9000},
        "health": {"port": 9100},
    }
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def config(path: Path) -> Config:
    return load_config(path)


def test_a_source_moves_only_to_a_new_shard() -> None:
    """With a fourth shard a quarter of the sources moves, all of them to it."""
    before, after = ([shard_of(name, n) for name in SOURCES] for n in (3, 4))
    moved = {new for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {3}
    for n, shards in ((3, before), (4, after)):
        assert all(abs(shards.count(k) - 2000 / n) < 100 for k in range(n))


def test_it_is_the_same_everywhere() -> None:
    """Processes that do not know each other, on other machines and in later versions, agree."""
    assert [shard_of(f"room{i}", 5) for i in range(12)] == [4, 0, 0, 2, 2, 4, 0, 1, 1, 0, 1, 2]


def test_the_parts_are_the_whole(config: Config) -> None:
    """Each source is in one part; parts share neither name, directory nor port."""
    parts = [part_of(config, k, 3) for k in range(3)]
    assert sorted(name for part in parts for name in part.sources) == sorted(config.sources)
    assert [part.node for part in parts] == ["house-0", "house-1", "house-2"]
    assert [part.gateway.port for part in parts if part.gateway is not None] == [9000, 9001, 9002]
    assert [part.health.port for part in parts] == [9100, 9101, 9102]
    assert len({part.state_dir for part in parts}) == len({part.web.port for part in parts}) == 3
    assert parts[0].sounds == config.sounds


def test_what_cannot_be_a_part_is_said(config: Config) -> None:
    """A process that would listen to nothing, or at no port, does not start."""
    (empty, *_) = set(range(200)) - {shard_of(name, 200) for name in config.sources}
    with pytest.raises(ConfigError, match=f"no source of this file belongs to shard {empty}/200"):
        part_of(config, empty, 200)
    assert config.gateway is not None
    high = config.model_copy(update={"gateway": config.gateway.model_copy(update={"port": 65535})})
    with pytest.raises(ConfigError, match="would listen at port 65536"):
        part_of(high, 1, 3)


def test_it_is_said_which_shard_a_source_has(path: Path, config: Config) -> None:
    """A line a source, with the port that its node must connect to."""
    done = CliRunner().invoke(app, ["fleet", "shards", "--config", str(path), "--of", "3"])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert len(lines) == len(config.sources)
    shard = shard_of("room7", 3)
    assert f"{shard}/3  room7  node pi-room7 at port {9000 + shard}" in lines
