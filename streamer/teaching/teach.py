"""Teaches a sound: clips to windows, windows to embeddings, embeddings to a head."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamer.config.schema import ModelSettings
from streamer.inference.engines import open_engine
from streamer.model import hub, manifest
from streamer.teaching import bank
from streamer.teaching.clips import Clip
from streamer.teaching.fit import Estimate, Steps, fit
from streamer.teaching.record import About, Taught
from streamer.teaching.variants import Variant, bank_windows, clip_windows, variants
from streamer.types import Samples, Scores

_BANK_WINDOWS = 32
_BANK_STEPS = 16
"""of each of its windows, so many time steps are kept"""
_SOUNDS, _SILENT = 0.5, 0.02
"""share of a time step from which on the sound is in it, and up to which it is not"""


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What a sound is taught from."""

    name: str
    clips: Sequence[Clip]
    not_clips: Sequence[Clip]


def teach(lesson: Lesson, model: ModelSettings, seed: int = 0) -> Taught:
    """The same clips give the same head. Raises ModelError, InferenceError."""
    engine = open_engine(model, embeds=True)
    directory = hub.resolve(model.path)
    rng = np.random.default_rng(seed)
    own = [variants(clip, engine.window_s, rng) for clip in lesson.clips]
    given = [clip_windows(clip, engine.window_s, rng) for clip in lesson.not_clips]
    made = bank_windows(rng, engine.window_s, _BANK_WINDOWS)
    windows = [variant.window for found in own for variant in found]
    n_own, n_given = len(windows), sum(map(len, given))
    windows += [window for found in given for window in found] + made
    scores = engine.score(windows)
    known = bank.shipped(directory, embeddings_of(scores[0]).shape[-1])
    others = []
    if n_given:
        others.append((0.5, thinned(scores[n_own : n_own + n_given], rng)))
    if known is not None:
        others.append((0.5, known))
    others.append((0.5, thinned(scores[n_own + n_given :], rng)))
    steps = steps_of(own, scores[:n_own], others)
    head, estimate = fit(lesson.name, steps)
    return Taught(_about(lesson, model, directory, estimate), head, steps.sound, steps.clip)


def embeddings_of(scores: Scores) -> Samples:
    """(t, size)"""
    if scores.embeddings is None:
        raise RuntimeError("the engine gives no embeddings")
    return scores.embeddings


def steps_of(
    own: Sequence[Sequence[Variant]], scores: Sequence[Scores], others: Sequence[tuple[float, Samples]]
) -> Steps:
    """The time steps in which the clips sound, and those around; `scores` of all their windows, in order."""
    sound, clip, window, around, around_clip = [], [], [], [], []
    numbered = [(i, variant) for i, found in enumerate(own) for variant in found]
    for number, ((i, variant), one) in enumerate(zip(numbered, scores, strict=True)):
        embeddings = embeddings_of(one)
        share = _share(variant.active, len(embeddings), one.frame_s)
        is_in = share >= min(_SOUNDS, float(share.max()))  # a click is shorter than half a step
        sound.append(embeddings[is_in])
        clip.append(np.full(int(is_in.sum()), i))
        window.append(np.full(int(is_in.sum()), number))
        around.append(embeddings[share <= _SILENT])
        around_clip.append(np.full(len(around[-1]), i))
    return Steps(
        np.concatenate(sound),
        np.concatenate(clip),
        np.concatenate(window),
        np.concatenate(around),
        np.concatenate(around_clip),
        others,
    )


def thinned(scores: Iterable[Scores], rng: np.random.Generator) -> Samples:
    """(windows, t, size): some time steps of each window."""
    kept = []
    for one in scores:
        embeddings = embeddings_of(one)
        n = min(_BANK_STEPS, len(embeddings))
        kept.append(embeddings[np.sort(rng.choice(len(embeddings), n, replace=False))])
    n = min(map(len, kept))
    return np.stack([embeddings[:n] for embeddings in kept])


def _share(active: npt.NDArray[np.float32], n: int, frame_s: float) -> npt.NDArray[np.float64]:
    """(n,) how much of each time step the sound is in; all of it where there are no frames."""
    if not frame_s:
        return np.ones(n)
    share = np.zeros(n)
    edges = np.arange(n) * frame_s
    for begin, end in active:
        share += np.clip(np.minimum(edges + frame_s, end) - np.maximum(edges, begin), 0, None) / frame_s
    return share


def _about(lesson: Lesson, model: ModelSettings, directory: Path, estimate: Estimate) -> About:
    return About(
        name=lesson.name,
        model=model.path,
        fingerprint=manifest.fingerprint(directory),
        taught_at=time.time(),
        clips=[clip.path.name for clip in lesson.clips],
        not_clips=[clip.path.name for clip in lesson.not_clips],
        heard=estimate.heard,
        n_others=estimate.n_others,
        false=estimate.false,
        is_contradicted=bool(lesson.not_clips) and estimate.is_contradicted,
    )
