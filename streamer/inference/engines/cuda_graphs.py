"""A network as CUDA graphs: one for each of a few batch sizes, so that a pass is one launch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Outputs = tuple[Tensor, Tensor | None, Tensor | None]
Forward = Callable[[Tensor], Outputs]


def graph_sizes(max_batch: int) -> list[int]:
    """1, 2, 4 … and the largest batch: padding costs less than half of a batch."""
    sizes = [1 << i for i in range(max_batch.bit_length()) if 1 << i < max_batch]
    return [*sizes, max_batch]


class Graphed:
    """Calls `forward` on (B, T, M) by the graph of the next larger batch; rows beyond B are ignored.

    What it returns is overwritten by the next call.
    """

    def __init__(
        self, forward: Forward, shape: tuple[int, int], device: torch.device, max_batch: int
    ) -> None:
        """Capture all graphs, the largest first, so that the others find room in its memory."""
        self._input = torch.zeros(max_batch, *shape, device=device)
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Outputs]] = {}
        pool = torch.cuda.graph_pool_handle()
        with torch.inference_mode(), torch.cuda.device(device):
            for size in reversed(graph_sizes(max_batch)):
                x = self._input[:size]
                # Libraries allocate on first use, which a capture forbids.
                side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's
                side.wait_stream(torch.cuda.current_stream(device))
                with torch.cuda.stream(side):
                    forward(x)
                torch.cuda.current_stream(device).wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool):
                    outputs = forward(x)
                self._graphs[size] = graph, outputs

    def __call__(self, x: Tensor) -> Outputs:
        n = x.shape[0]
        size = min(size for size in self._graphs if size >= n)
        self._input[:n].copy_(x)
        graph, (clips, *others) = self._graphs[size]
        graph.replay()
        frames, embeddings = (None if one is None else one[:n] for one in others)
        return clips[:n], frames, embeddings
