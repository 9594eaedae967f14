"""The ONNX graph against the network of torch, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch

from streamer.model import checkpoint, weights
from streamer.model.ast import ACTIVATIONS, AST
from streamer.model.config import ACTIVATIONS as NAMES
from streamer.model.config import ASTConfig, FbankConfig
from streamer.model.onnx_graph import ACTIVATIONS as OF_GRAPH
from streamer.model.onnx_graph import make_file, make_graph
from tests.inference import models
from tests.model.reference import SMALL, features, reference, save
from tests.model.test_ast import FIELDS

TOLERANCE = 2e-5
"""absolute, of scores"""

Arrays = list[npt.NDArray[np.float32]]


def _own(model: weights.Model, x: npt.NDArray[np.float32]) -> Arrays:
    """As the engine has it."""
    graph, values = make_graph(model)
    options = onnxruntime.SessionOptions()
    arrays = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in values.values()]
    options.add_external_initializers(list(values), arrays)
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"features": x}))


def _file(model: weights.Model, x: npt.NDArray[np.float32]) -> Arrays:
    """As a file has it, for any runtime."""
    content = make_file(model)
    file = onnx.load_from_string(content)
    onnx.checker.check_model(file, full_check=True)
    assert file.SerializeToString() == content, "a field that is not known, or out of order"
    assert {node.domain for node in file.graph.node} == {""}, "operators of the standard alone"
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"features": x}))


def _differs(directory: Path, x: torch.Tensor) -> float:
    model = weights.load(directory)
    network = checkpoint.as_network(model).network
    with torch.no_grad():
        expected = [y.sigmoid().numpy() for y in network(x) if y is not None]
    return max(
        float(np.abs(a - b).max())
        for compute in (_own, _file)
        for a, b in zip(compute(model, x.numpy()), expected, strict=True)
    )


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_field(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Every field of the configuration means what it means to the network."""
    theirs = reference(**fields)
    assert _differs(save(theirs, tmp_path / "model"), features(theirs)) < TOLERANCE


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(tmp_path: Path, activation: str) -> None:
    """Every activation by its published name."""
    theirs = reference(hidden_act=activation)
    assert _differs(save(theirs, tmp_path / "model"), features(theirs)) < TOLERANCE


def test_activations_are_known_by_the_same_names() -> None:
    """What a configuration may ask for, each engine has."""
    assert set(NAMES) == set(ACTIVATIONS) == set(OF_GRAPH)


def test_frame_head(tmp_path: Path) -> None:
    """The scores of the time steps, too."""
    assert _differs(models.directory(tmp_path / "model"), torch.randn(3, 128, 128)) < TOLERANCE


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS.keys())
def test_weights_are_those_of_the_network(fields: dict[str, Any]) -> None:
    """Names and shapes that are told without torch are those that torch has."""
    for frame_head in (False, True):
        config = ASTConfig(**{**SMALL, **fields}, frame_head=frame_head)  # type: ignore[arg-type]  # mixed values
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in AST(config).state_dict().items()}
        assert dict(weights.shapes(config)) == expected


def test_the_graph_holds_no_weights(tmp_path: Path) -> None:
    """They are in memory once: the graph has their names, and is small whatever the model's size."""
    network = AST(ASTConfig(num_hidden_layers=2))
    checkpoint.save(tmp_path / "wide", network, FbankConfig())

    graph, values = make_graph(weights.load(tmp_path / "wide"))

    assert sum(value.nbytes for value in values.values()) > 50e6
    assert len(graph) < 50_000
