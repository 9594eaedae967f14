"""OpenVINO on the CPU: float32, and bfloat16 where the processor has units for it, without torch."""

from __future__ import annotations

import sys
from functools import cache, partial
from typing import ClassVar

from streamer.inference.engines.graph import GraphEngine, Network
from streamer.inference.engines.processor import bfloat16_units
from streamer.inference.engines.scores import Floats
from streamer.model.onnx_graph import make_file
from streamer.model.weights import Model

# With this package OpenVINO tells its makers of each import, over the network and unasked; it does without.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # which makes its import fail

import openvino  # noqa: E402  # after the line above


class OpenVinoEngine(GraphEngine):
    """The extra `openvino`."""

    engine = "openvino"
    runtime = "OpenVINO"
    dtypes: ClassVar = {
        "auto": ("bfloat16", "the CPU has units for it"),
        "float32": ("float32", "as configured"),
        "bfloat16": ("bfloat16", "as configured"),
    }

    def _prepare(self, model: Model) -> None:
        if self.dtype == "bfloat16" and not bfloat16_units():
            self.dtype, self._why = "float32", "the CPU has no bfloat16 units"
        self._graph = _core().read_model(make_file(model, embeds=self._embeds))

    def _compile(self, n_threads: int) -> Network:
        if self.dtype == "bfloat16":
            try:
                return self._compile_as("bf16", n_threads)
            except RuntimeError:  # OpenVINO's own view of the processor, which a setting can narrow, decides
                self.dtype, self._why = "float32", "OpenVINO has no bfloat16 on this CPU"
        return self._compile_as("f32", n_threads)

    def _compile_as(self, precision: str, n_threads: int) -> Network:
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": n_threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        return partial(_run, _core().compile_model(self._graph, "CPU", options))


@cache
def _core() -> openvino.Core:
    """One for the life of the process.

    On a CPU with AMX, OpenVINO gives the thread that makes it a signal stack, and takes the memory away
    when it is deleted. Where another thread deletes it, the next signal ends the process.
    """
    return openvino.Core()


def _run(compiled: openvino.CompiledModel, features: Floats) -> list[Floats]:
    return [compiled(features)[output].copy() for output in compiled.outputs]
