"""Which shard listens to a source: one configuration for all of them, one process for each."""

from __future__ import annotations

from hashlib import sha256

from streamer.config.schema import Config
from streamer.errors import ConfigError
from streamer.store.directory import state_directory

PORT_MAX = 65535


def shard_of(source_id: str, n_shards: int) -> int:
    """The shard of a source, 0 to `n_shards` - 1, by rendezvous hash.

    With one shard more, only the sources move that the new one gets.
    """
    return max(range(n_shards), key=lambda shard: sha256(f"{shard} {source_id}".encode()).digest())


def part_of(config: Config, index: int, n_shards: int) -> Config:
    """What one shard runs: its own sources, a node name, directory and ports of its own.

    Raises ConfigError where it has no source, or a port is beyond the last one.
    """
    sources = {name: source for name, source in config.sources.items() if shard_of(name, n_shards) == index}
    if not sources:
        raise ConfigError(f"no source of this file belongs to shard {index}/{n_shards}: use fewer shards")
    return config.shard(
        f"{config.node}-{index}",
        sources=sources,
        state_dir=state_directory(config.state_dir) / f"shard-{index}",
        gateway=None
        if config.gateway is None
        else config.gateway.model_copy(update={"port": _port(config.gateway.port, index)}),
        web=config.web.model_copy(update={"port": _port(config.web.port, index)}),
        health=config.health
        if config.health.port is None
        else config.health.model_copy(update={"port": _port(config.health.port, index)}),
    )


def _port(first: int, index: int) -> int:
    if first + index > PORT_MAX:
        raise ConfigError(
            f"shard {index} would listen at port {first + index}: there is none beyond {PORT_MAX}"
        )
    return first + index
