"""Makes the scores of windows from what a network gave for a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamer.errors import InferenceError
from streamer.types import Scores, Window

Floats = npt.NDArray[np.float32]


def as_scores(
    windows: Sequence[Window],
    clips: Floats,
    frames: Floats | None,
    embeddings: Floats | None,
    frame_s: float,
    dtype: str,
) -> list[Scores]:
    """Of (B, N) and, with a frame head, (B, t, N). Raises InferenceError for scores that are not finite.

    `embeddings` are (B, t, H), or (B, 1, H) without a frame head.
    """
    scores = []
    for i, window in enumerate(windows):
        own = None if frames is None else frames[i, : n_frames(window, frame_s)]
        if not np.isfinite(clips[i]).all() or (own is not None and not np.isfinite(own).all()):
            raise InferenceError(f"{window.source_id}: the model's scores are not finite in {dtype}")
        scores.append(
            Scores(
                source_id=window.source_id,
                index=window.index,
                start=window.start,
                end=window.end,
                clip=clips[i],
                frames=own,
                frame_s=frame_s,
                embeddings=None if embeddings is None else embeddings[i, : 1 if own is None else len(own)],
            )
        )
    return scores


def n_frames(window: Window, frame_s: float) -> int:
    """Time steps that begin before the window's end; later ones cover padding."""
    return math.ceil(round(len(window.samples) / window.sample_rate / frame_s, 6))
