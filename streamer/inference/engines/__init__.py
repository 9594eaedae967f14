"""The engines of each kind of model, each imported only when it is opened: runtimes are slow to load."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from streamer.config.schema import ModelSettings
from streamer.errors import ModelError
from streamer.inference.engines.choice import choose
from streamer.inference.worker import Engine
from streamer.model import hub
from streamer.model.config import MODEL_TYPE, model_type

ENGINES: Mapping[str, Mapping[str, str]] = {
    MODEL_TYPE: {
        "torch": "streamer.inference.engines.torch:TorchEngine",
        "onnx": "streamer.inference.engines.onnx:OnnxEngine",
        "openvino": "streamer.inference.engines.openvino:OpenVinoEngine",
    }
}
"""module and class, by the `model_type` of a model's `config.json` and the engine's name"""


def open_engine(settings: ModelSettings, engine: str | None = None) -> Engine:
    """Load a model in this process. `engine` (`module:Class`) stands in for what the settings name.

    Raises ModelError.
    """
    if engine is not None:
        return _load(engine, settings)
    kind = model_type(hub.resolve(settings.path))
    if kind not in ENGINES:
        raise ModelError(
            f"{settings.path}: model_type is {kind!r}; these can be used: {', '.join(map(repr, ENGINES))}"
        )
    name, why = choose(settings, ENGINES[kind])
    opened = _load(ENGINES[kind][name], settings)
    opened.chosen = why
    return opened


def _load(engine: str, settings: ModelSettings) -> Engine:
    module, _, name = engine.partition(":")
    return cast(Engine, getattr(importlib.import_module(module), name)(settings))
