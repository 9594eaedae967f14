"""Interleaved PCM as it comes out of a pipe or a socket."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Format: TypeAlias = Literal["s16le", "s32le", "f32le"]

DTYPES: dict[Format, np.dtype[np.int16 | np.int32 | np.float32]] = {
    "s16le": np.dtype("<i2"),
    "s32le": np.dtype("<i4"),
    "f32le": np.dtype("<f4"),
}


def frames(raw: bytes, sample_format: Format, channels: int) -> npt.NDArray[np.float32]:
    """(n_frames, channels) with full scale at 1. What is left of a frame at the end is dropped."""
    dtype = DTYPES[sample_format]
    frame_bytes = channels * dtype.itemsize
    values = np.frombuffer(raw[: len(raw) // frame_bytes * frame_bytes], dtype).reshape(-1, channels)
    full_scale = 1.0 if dtype.kind == "f" else 2.0 ** (8 * dtype.itemsize - 1)
    return (values / full_scale).astype(np.float32)
