"""The Audio Spectrogram Transformer as an ONNX graph, made of a configuration and weights without torch.

Input `features` (B, T, M); outputs `scores` (B, N) and, with a frame head, `frames` (B, t, N), both in 0..1;
where asked also `embeddings`, (B, t, H) of the time steps or (B, 1, H) of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt

from streamer.model import onnx_file
from streamer.model.config import ASTConfig
from streamer.model.weights import HEAD, Model, Weights

FEATURES, SCORES, FRAMES, EMBEDDINGS = "features", "scores", "frames", "embeddings"
_RUNTIMES_OWN = "com.microsoft"
"""operators that ONNX Runtime has beyond the standard's"""
_SMALL = 64
"""bytes of a constant that is part of the graph in any case: the runtime plans by some of them"""

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]


def make_graph(model: Model, *, int8: bool = False, embeds: bool = False) -> tuple[bytes, dict[str, Array]]:
    """The graph for ONNX Runtime, without weights, and the weights by name, to be given to the session.

    So they are in memory once. With `int8` the layers of the transformer compute in eight bits.
    """
    builder = _Builder(model.config, model.weights, int8=int8, portable=False, embeds=embeds)
    weights = {name: array for name, array in builder.constants.items() if array.nbytes > _SMALL}
    return builder.content(weights), weights


def make_file(model: Model, *, int8: bool = False, embeds: bool = False) -> bytes:
    """The graph with its weights. In float32 any runtime computes it; `int8` needs ONNX Runtime."""
    return _Builder(model.config, model.weights, int8=int8, portable=True, embeds=embeds).content()


class _Graph:
    """Collects nodes and constants; each method returns the name of a value."""

    def __init__(self) -> None:
        self.nodes: list[onnx_file.Node] = []
        self.constants: dict[str, Array] = {}

    def op(
        self, kind: str, *inputs: str, domain: str = "", to: str = "", **attributes: onnx_file.Attribute
    ) -> str:
        name = to or f"{kind}_{len(self.nodes)}"
        self.nodes.append(onnx_file.Node(kind, inputs, name, domain, attributes))
        return name

    def constant(self, values: npt.ArrayLike, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(values).reshape(np.shape(values))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))


class _Builder(_Graph):
    """The network: shapes as in `ast.py`."""

    def __init__(
        self, config: ASTConfig, weights: Weights, *, int8: bool, portable: bool, embeds: bool = False
    ) -> None:
        super().__init__()
        self.config, self.weights = config, weights
        self._int8, self._portable, self._embeds = int8, portable, embeds
        self._network()

    def content(self, external: Collection[str] = ()) -> bytes:
        """The model; of the constants in `external` only name, type and shape are in it."""
        config = self.config
        windows, (_, t), n = "windows", config.grid, len(config.id2label)
        outputs: dict[str, onnx_file.Shape] = {SCORES: (windows, n)} | (
            {FRAMES: (windows, t, n)} if config.frame_head else {}
        )
        if self._embeds:
            outputs[EMBEDDINGS] = windows, t if config.frame_head else 1, config.hidden_size
        return onnx_file.write(
            self.nodes,
            self.constants,
            {FEATURES: (windows, config.max_length, config.num_mel_bins)},
            outputs,
            external=external,
            domains=(_RUNTIMES_OWN,),
        )

    def _network(self) -> None:
        config = self.config
        h, (f, t) = config.hidden_size, config.grid
        position = self.weights["position"]
        patches = self.op("Add", self.patches(), self.constant(position[:, 2:], "positions"))
        tokens = np.concatenate((self.weights["cls_token"], self.weights["distillation_token"]), axis=1)
        heads = self.constant(tokens + position[:, :2], "heads")
        n_windows = self.op("Shape", FEATURES, start=0, end=1)
        shape = self.op("Concat", n_windows, self.integers(2, h), axis=0)
        x = self.op("Concat", self.op("Expand", heads, shape), patches, axis=1)
        for i in range(config.num_hidden_layers):
            # Without a frame head the patch tokens are not needed.
            is_last = i == config.num_hidden_layers - 1
            x = self.block(x, f"blocks.{i}", 2 if is_last and not config.frame_head else None)
        eps = config.layer_norm_eps
        x = self.norm(x, "norm", eps)
        middle = self.op("ReduceMean", self.rows(x, 0, 2), self.integers(1), keepdims=0)
        embedding = self.norm(middle, "head_norm", eps)
        self.posteriors(self.linear(embedding, "head"), SCORES)
        if config.frame_head:
            grid = self.op("Reshape", self.rows(x, 2, f * t + 2), self.integers(0, f, t, h))
            steps = self.steps(grid)
            self.posteriors(self.linear(steps, f"{HEAD}dense"), FRAMES)
        else:
            steps = self.op("Unsqueeze", embedding, self.integers(1)) if self._embeds else ""
        if self._embeds:
            self.op("Identity", steps, to=EMBEDDINGS)

    def patches(self) -> str:
        """(B, T, M) -> (B, f * t, H)"""
        config = self.config
        p, h = config.patch_size, config.hidden_size
        image = self.op("Unsqueeze", self.op("Transpose", FEATURES, perm=[0, 2, 1]), self.integers(1))
        x = self.op(
            "Conv",
            image,
            self.constant(self.weights["patch.weight"].reshape(h, 1, p, p), "patch.weight"),
            self.constant(self.weights["patch.bias"], "patch.bias"),
            kernel_shape=[p, p],
            strides=[config.frequency_stride, config.time_stride],
        )
        return self.op("Transpose", self.op("Reshape", x, self.integers(0, h, -1)), perm=[0, 2, 1])

    def block(self, x: str, name: str, m: int | None) -> str:
        """(B, n, H) -> (B, m, H): the first m tokens (all of them where None)."""
        eps = self.config.layer_norm_eps
        attended = self.attention(self.norm(x, f"{name}.norm_attention", eps), f"{name}.attention", m)
        x = self.op("Add", attended, x if m is None else self.rows(x, 0, m))
        up = self.layer(self.norm(x, f"{name}.norm_mlp", eps), f"{name}.up")
        down = self.layer(ACTIVATIONS[self.config.hidden_act](self, up), f"{name}.down")
        return self.op("Add", down, x)

    def attention(self, x: str, name: str, m: int | None) -> str:
        """(B, n, H) -> (B, m, H): what the first m tokens (all of them where None) see in all."""
        heads = self.config.num_attention_heads
        first = x if m is None else self.rows(x, 0, m)
        q, k, v = (self.layer(y, f"{name}.qkv", part) for part, y in enumerate((first, x, x)))
        if self._portable:
            seen = self.attend(q, k, v)
        else:
            seen = self.op("MultiHeadAttention", q, k, v, domain=_RUNTIMES_OWN, num_heads=heads)
        return self.layer(seen, f"{name}.out")

    def attend(self, q: str, k: str, v: str) -> str:
        """softmax(q k' / sqrt(d)) v: (B, m, H) and two of (B, n, H) -> (B, m, H)."""
        h, heads = self.config.hidden_size, self.config.num_attention_heads
        d = h // heads
        orders = ((q, [0, 2, 1, 3]), (k, [0, 2, 3, 1]), (v, [0, 2, 1, 3]))
        split = self.integers(0, 0, heads, d)
        q, k, v = (self.op("Transpose", self.op("Reshape", y, split), perm=perm) for y, perm in orders)
        products = self.op("MatMul", self.op("Mul", q, self.number(d**-0.5)), k)
        seen = self.op("MatMul", self.op("Softmax", products, axis=-1), v)
        return self.op("Reshape", self.op("Transpose", seen, perm=[0, 2, 1, 3]), self.integers(0, 0, h))

    def steps(self, patches: str) -> str:
        """(B, f, t, H) -> (B, t, H)"""
        rows = self.integers(1)
        share = self.op("Softmax", self.linear(patches, f"{HEAD}weight"), axis=1)
        weighted = self.op("ReduceSum", self.op("Mul", patches, share), rows, keepdims=0)
        mean = self.op("ReduceMean", patches, rows, keepdims=0)
        pooled = self.op("Concat", mean, weighted, axis=-1)
        x = self.op("Gelu", self.linear(pooled, f"{HEAD}pool"))
        neighbours = self.op(
            "Conv",
            self.op("Transpose", x, perm=[0, 2, 1]),
            self.constant(self.weights[f"{HEAD}neighbours.weight"], f"{HEAD}neighbours.weight"),
            self.constant(self.weights[f"{HEAD}neighbours.bias"], f"{HEAD}neighbours.bias"),
            kernel_shape=[5],
            pads=[2, 2],
        )
        x = self.op("Add", x, self.op("Transpose", self.op("Gelu", neighbours), perm=[0, 2, 1]))
        return self.norm(x, f"{HEAD}norm", 1e-6)

    def posteriors(self, logits: str, to: str) -> None:
        if self.config.is_single_label:
            self.op("Softmax", logits, axis=-1, to=to)
        else:
            self.op("Sigmoid", logits, to=to)

    def layer(self, x: str, name: str, part: int | None = None) -> str:
        """A linear layer of the transformer, in eight bits where asked; `part` is a third of its outputs."""
        weight, bias = self.weights[f"{name}.weight"].T, self.weights.get(f"{name}.bias")
        if part is not None:
            h = weight.shape[1] // 3
            own = slice(part * h, (part + 1) * h)
            weight, bias = weight[:, own], None if bias is None else bias[own]
            name = f"{name}.{part}"
        return self.quantized(x, name, weight, bias) if self._int8 else self.product(x, name, weight, bias)

    def linear(self, x: str, name: str) -> str:
        """A linear layer in float32."""
        return self.product(x, name, self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"])

    def product(self, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """(..., inputs) by (inputs, outputs), plus (outputs,)"""
        y = self.op("MatMul", x, self.constant(weight, f"{name}.weight"))
        return y if bias is None else self.op("Add", y, self.constant(bias, f"{name}.bias"))

    def quantized(self, x: str, name: str, weight: Floats, bias: Floats | None) -> str:
        """As `product`, with inputs quantised by their own range and weights by the range of each output."""
        scale = np.maximum(np.abs(weight).max(axis=0), np.float32(1e-12)) / np.float32(127)
        inputs = [
            x,
            self.constant(np.rint(weight / scale).astype(np.int8), f"{name}.weight"),
            self.constant(scale, f"{name}.scale"),
            self.constant(np.zeros(len(scale), np.int8), f"{name}.zero"),
        ]
        if bias is not None:
            inputs.append(self.constant(bias, f"{name}.bias"))
        return self.op("DynamicQuantizeMatMul", *inputs, domain=_RUNTIMES_OWN)

    def norm(self, x: str, name: str, eps: float) -> str:
        return self.op(
            "LayerNormalization",
            x,
            self.constant(self.weights[f"{name}.weight"], f"{name}.weight"),
            self.constant(self.weights[f"{name}.bias"], f"{name}.bias"),
            axis=-1,
            epsilon=eps,
        )

    def rows(self, x: str, start: int, end: int) -> str:
        return self.op("Slice", x, self.integers(start), self.integers(end), self.integers(1))


def _gelu_tanh(g: _Graph, x: str) -> str:
    return g.op("Gelu", x, approximate="tanh")


def _clipped(g: _Graph, x: str, low: float, high: float) -> str:
    return g.op("Clip", x, g.number(low), g.number(high))


def _relu_squared(g: _Graph, x: str) -> str:
    y = g.op("Relu", x)
    return g.op("Mul", y, y)


def _laplace(g: _Graph, x: str) -> str:
    shifted = g.op("Sub", x, g.number(0.707107))
    scaled = g.op("Mul", shifted, g.number(1 / (0.282095 * np.sqrt(2))))
    return g.op("Mul", g.op("Add", g.op("Erf", scaled), g.number(1.0)), g.number(0.5))


def _silu(g: _Graph, x: str) -> str:
    return g.op("Mul", x, g.op("Sigmoid", x))


ACTIVATIONS: dict[str, Callable[[_Graph, str], str]] = {
    "gelu": lambda g, x: g.op("Gelu", x),
    "gelu_python": lambda g, x: g.op("Gelu", x),
    "gelu_10": lambda g, x: _clipped(g, g.op("Gelu", x), -10, 10),
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_accurate": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "quick_gelu": lambda g, x: g.op("Mul", x, g.op("Sigmoid", g.op("Mul", x, g.number(1.702)))),
    "relu": lambda g, x: g.op("Relu", x),
    "relu2": _relu_squared,
    "relu6": lambda g, x: _clipped(g, x, 0, 6),
    "leaky_relu": lambda g, x: g.op("LeakyRelu", x, alpha=0.01),
    "silu": _silu,
    "swish": _silu,
    "hardswish": lambda g, x: g.op("HardSwish", x),
    "mish": lambda g, x: g.op("Mish", x),
    "tanh": lambda g, x: g.op("Tanh", x),
    "sigmoid": lambda g, x: g.op("Sigmoid", x),
    "sqrtsoftplus": lambda g, x: g.op("Sqrt", g.op("Softplus", x)),
    "laplace": _laplace,
    "linear": lambda _, x: x,
}
"""by the names of `config.ACTIVATIONS`"""
