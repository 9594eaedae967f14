"""The engines, by name. Each is imported only when it is opened, since runtimes are slow to load."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from streamer.config.schema import ModelSettings
from streamer.inference.worker import Engine

ENGINES: Mapping[str, str] = {"torch": "streamer.inference.engines.torch:TorchEngine"}
"""module and class by name"""
DEFAULT = "torch"


def open_engine(settings: ModelSettings, engine: str = DEFAULT) -> Engine:
    """Load a model in this process. `engine` is a name, or `module:Class`. Raises ModelError."""
    module, _, name = ENGINES.get(engine, engine).partition(":")
    return cast(Engine, getattr(importlib.import_module(module), name)(settings))
