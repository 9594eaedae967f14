"""From windows to scores: device, dtype, batches. The same code on a CPU and on CUDA."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamer.config.schema import ModelSettings
from streamer.errors import InferenceError, ModelError
from streamer.inference.engines.cuda_graphs import Forward, Graphed
from streamer.inference.engines.packed import can_pack, pack
from streamer.inference.engines.processor import bfloat16_units
from streamer.inference.engines.scores import as_scores
from streamer.inference.engines.speed import Score, fastest_hop, fastest_threads, noise
from streamer.model import checkpoint, hub, weights
from streamer.model.fbank import Fbank
from streamer.types import Scores, Window


@dataclass(frozen=True, slots=True)
class _Pending:
    """A batch whose scores are on their way from the device."""

    windows: Sequence[Window]
    clips: Tensor
    frames: Tensor | None
    embeddings: Tensor | None
    done: torch.cuda.Event | None


class TorchEngine:
    """A model on a device. Synchronous, and used by one thread at a time.

    Features are computed in float32 from each window's own rate, the network runs in `dtype`, and scores come
    back as float32; nothing else leaves the device.
    """

    def __init__(self, settings: ModelSettings, *, embeds: bool = False) -> None:
        """Load, lay out and warm up. With `embeds`, scores have embeddings. Raises ModelError."""
        if settings.dtype == "int8":
            raise ModelError("dtype int8: the engine torch has no eight bits; set engine: onnx")
        model = weights.load(hub.resolve(settings.path))
        if settings.window_s is not None:
            model = weights.shorten(model, settings.window_s, settings.position)
        loaded, config = checkpoint.as_network(model), model.config
        self.device = choose_device(settings.first_device)
        self.dtype, self._why = choose_dtype(settings.dtype, self.device)
        self.name = loaded.name
        self.labels = loaded.labels
        self.sample_rate = loaded.fbank.sampling_rate
        self.window_s = loaded.fbank.window_s
        self.frame_s = config.frame_s
        self.max_batch = settings.max_batch
        self.chosen = ""
        self._embeds = embeds
        self._is_single_label = config.is_single_label
        self._failure: InferenceError | None = None
        self._fbank = Fbank(loaded.fbank).to(self.device)
        self._network = loaded.network.to(self.device, self.dtype)
        self._forward: Forward = self._posteriors
        if self.device.type == "cuda":
            shape = config.max_length, config.num_mel_bins
            try:
                self._forward = Graphed(self._posteriors, shape, self.device, self.max_batch)
            except torch.OutOfMemoryError as error:
                raise ModelError(
                    f"device {self.device}: no room for batches of {self.max_batch}; set a smaller max_batch"
                ) from error
        elif self.dtype is torch.bfloat16:
            pack(self._network)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        elif self.device.type == "cpu":
            torch.set_num_threads(
                fastest_threads(torch.get_num_threads(), self._with_threads, self._noise(0))
            )
        self.score([self._noise(0)])

    @property
    def kind(self) -> str:
        return f"torch, {str(self.dtype).removeprefix('torch.')}"

    def describe(self) -> str:
        """One line for people: which model, how, on what."""
        frames = f", frames of {self.frame_s:g} s" if self.frame_s else ""
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        n_threads = torch.get_num_threads()
        threads = f", {n_threads} thread{'s' if n_threads > 1 else ''}" if self.device.type == "cpu" else ""
        dtype = str(self.dtype).removeprefix("torch.")
        chosen = f"; {self.chosen}" if self.chosen else ""
        return (
            f"{self.name}: {len(self.labels)} labels, windows of {self.window_s:g} s{frames};"
            f" {where}, {dtype} ({self._why}){threads}{chosen}"
        )

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        """Scores of windows of any sources, rates and lengths, in their order. Raises InferenceError.

        Where the device runs out of memory, batches are of one window from then on. After any other error of
        the device nothing can be trusted, and every later call fails as well.
        """
        if self._failure is not None:
            raise self._failure
        try:
            return self._score(windows)
        except torch.OutOfMemoryError as error:
            if self.max_batch > 1:
                self.max_batch = 1
                torch.cuda.empty_cache()
                return self.score(windows)
            self._failure = InferenceError(f"{self.device}: out of memory for a single window")
            raise self._failure from error
        except RuntimeError as error:
            self._failure = InferenceError(f"{self.device}: {str(error).splitlines()[0]}")
            raise self._failure from error

    def fastest_hop(self, n_sources: int) -> float:
        """The shortest hop at which so many sources keep the engine under half busy, by measurement."""
        return fastest_hop(self.score, n_sources, self.window_s, self.sample_rate)

    def _with_threads(self, n_threads: int) -> Score:
        torch.set_num_threads(n_threads)
        return self.score

    @torch.inference_mode()
    def _score(self, windows: Sequence[Window]) -> list[Scores]:
        """The host prepares a batch while the device is busy with the one before."""
        scores: list[Scores] = []
        pending: _Pending | None = None
        for i in range(0, len(windows), self.max_batch):
            launched = self._launch(windows[i : i + self.max_batch])
            if pending is not None:
                scores += self._collect(pending)
            pending = launched
        return scores + self._collect(pending) if pending is not None else scores

    def _launch(self, windows: Sequence[Window]) -> _Pending:
        clips, frames, embeddings = self._forward(self._features(windows))
        if self.device.type != "cuda":
            return _Pending(windows, clips, frames, embeddings, None)
        # Into pinned memory the copy needs no wait; the event tells when it has arrived.
        clips, frames = _to_host(clips), None if frames is None else _to_host(frames)
        embeddings = None if embeddings is None else _to_host(embeddings)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's
        done.record(torch.cuda.current_stream(self.device))
        return _Pending(windows, clips, frames, embeddings, done)

    def _collect(self, pending: _Pending) -> list[Scores]:
        if pending.done is not None:
            pending.done.synchronize()
        frames = None if pending.frames is None else pending.frames.numpy()
        embeddings = None if pending.embeddings is None else pending.embeddings.numpy()
        return as_scores(
            pending.windows, pending.clips.numpy(), frames, embeddings, self.frame_s, str(self.dtype)
        )

    def _posteriors(self, features: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B, T, M) -> (B, N) and, with a frame head, (B, t, N), in 0..1; embeddings where it embeds."""
        network, x = self._network, features.to(self.dtype)
        if self._embeds:
            clips, frames, embeddings = network.classify_and_embed(network.tokens(x), network.config.grid[1])
        else:
            (clips, frames), embeddings = network(x), None
        return (
            self._posterior(clips),
            None if frames is None else self._posterior(frames),
            None if embeddings is None else embeddings.float(),
        )

    def _posterior(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=-1) if self._is_single_label else logits.float().sigmoid()

    def _features(self, windows: Sequence[Window]) -> Tensor:
        """(B, T, M), whatever rates and lengths the windows have; those alike are computed together."""
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, window in enumerate(windows):
            alike[window.sample_rate, len(window.samples)].append(i)
        config = self._fbank.config
        features = torch.empty(len(windows), config.max_length, config.num_mel_bins, device=self.device)
        for (sample_rate, n_samples), indices in alike.items():
            audio = torch.empty(len(indices), n_samples, pin_memory=self.device.type == "cuda")
            np.stack([windows[i].samples for i in indices], out=audio.numpy())
            features[indices] = self._fbank(audio.to(self.device, non_blocking=True), sample_rate)
        return features

    def _noise(self, index: int) -> Window:
        """What a source might send, to warm up with and to measure."""
        return noise(index, self.window_s, self.sample_rate)


def _to_host(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)


def choose_device(name: str) -> torch.device:
    """`auto` takes CUDA where there is one. Raises ModelError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= n_devices:
            raise ModelError(f"device {name}: {n_devices} CUDA devices are here; set device: auto or cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype of the network, and why it was chosen. A dtype that the machine cannot do becomes float32."""
    if name == "float32":
        return torch.float32, "as configured"
    if device.type == "cuda":
        return torch.bfloat16, "as configured" if name == "bfloat16" else "the device has units for it"
    units = bfloat16_units()
    if name == "auto" and not units:
        return torch.float32, "the CPU has no bfloat16 units"
    if not can_pack(torch.bfloat16):
        return torch.float32, "this CPU has no bfloat16 operations"
    return torch.bfloat16, "as configured" if name == "bfloat16" else f"the CPU has {units}"
