"""The engines of each kind of model, each imported only when it is opened: runtimes are slow to load."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import cast

from streamer.config.schema import ModelSettings
from streamer.errors import ModelError
from streamer.inference.engines.choice import choose
from streamer.inference.heads import Head, HeadedEngine
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


def open_engine(
    settings: ModelSettings,
    engine: str | None = None,
    *,
    heads: Sequence[Head] = (),
    embeds: bool = False,
) -> Engine:
    """Load a model in this process. `engine` (`module:Class`) stands in for what the settings name.

    The labels of `heads` come behind the model's own; with `embeds`, scores have embeddings.
    Raises ModelError.
    """
    if heads:
        return HeadedEngine(open_engine(settings, engine, embeds=True), heads)
    if engine is not None:
        return _load(engine, settings, embeds)
    kind = model_type(hub.resolve(settings.path))
    if kind not in ENGINES:
        raise ModelError(
            f"{settings.path}: model_type is {kind!r}; these can be used: {', '.join(map(repr, ENGINES))}"
        )
    name, why = choose(settings, ENGINES[kind])
    opened = _load(ENGINES[kind][name], settings, embeds)
    opened.chosen = why
    return opened


def _load(engine: str, settings: ModelSettings, embeds: bool) -> Engine:
    module, _, name = engine.partition(":")
    kind = getattr(importlib.import_module(module), name)
    return cast(Engine, kind(settings, embeds=True) if embeds else kind(settings))
