"""Lays the weights out once for oneDNN, which else does it in each pass, and fuses the activation.

What it gains in bfloat16 stands in docs/benchmarks.md; in float32 it gains nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamer.model.ast import AST, Block


class PackedLinear(nn.Module):
    """`nn.Linear` for inference on a CPU, with an exact GELU behind it where asked."""

    def __init__(self, linear: nn.Linear, n_rows: int, gelu: bool = False) -> None:
        """`n_rows` is how many the input usually has; any other number works too."""
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), n_rows)
        self.bias = None if linear.bias is None else linear.bias.detach()
        self.post_op: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        # The operators by which torch's own compiler lowers a linear layer.
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *self.post_op)  # type: ignore[no-any-return]


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN has this operation for `dtype` on this CPU: tried, not read from a list of flags."""
    layer = nn.Linear(32, 32).to(dtype)
    try:
        PackedLinear(layer, 1)(torch.zeros(1, 32, dtype=dtype))
    except RuntimeError:
        return False
    return True


def pack(network: AST) -> None:
    """Replace the layers that do the work, in place; the weights before are given up."""
    f, t = network.config.grid
    n_rows = f * t + 2
    for block in cast(Iterable[Block], network.blocks):
        fuse = block.activation is F.gelu
        for parent, name in (
            (block.attention, "qkv"),
            (block.attention, "out"),
            (block, "up"),
            (block, "down"),
        ):
            linear = getattr(parent, name)
            setattr(parent, name, PackedLinear(linear, n_rows, gelu=fuse and linear is block.up))
        if fuse:
            block.activation = nn.Identity()
