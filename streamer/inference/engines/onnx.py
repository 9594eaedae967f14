"""ONNX Runtime on the CPU: float32 and eight bits."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import onnxruntime

from streamer.inference.engines.graph import GraphEngine, Network
from streamer.inference.engines.scores import Floats
from streamer.model.onnx_graph import FEATURES, make_graph
from streamer.model.weights import Model


class OnnxEngine(GraphEngine):
    """What a light installation has."""

    engine = "onnx"
    runtime = "ONNX Runtime"
    dtypes: ClassVar = {
        "auto": ("float32", "no score is rounded"),
        "float32": ("float32", "as configured"),
        "int8": ("int8", "as configured"),
        "bfloat16": ("float32", "ONNX Runtime has no bfloat16 on a CPU"),
    }

    def _prepare(self, model: Model) -> None:
        # The session refers to these arrays for as long as it lives.
        self._graph, self._weights = make_graph(model, int8=self.dtype == "int8", embeds=self._embeds)

    def _compile(self, n_threads: int) -> Network:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.log_severity_level = 3
        # Threads that wait by spinning take the processor from what else a home server does.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        return partial(
            _run, onnxruntime.InferenceSession(self._graph, options, providers=["CPUExecutionProvider"])
        )


def _run(session: onnxruntime.InferenceSession, features: Floats) -> list[Floats]:
    outputs: list[Floats] = session.run(None, {FEATURES: features})
    return outputs
