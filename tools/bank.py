"""Makes the bank of other sounds that a model ships with: time steps of recordings, as embeddings.

`python -m tools.bank --data DATA`: from folds 1 to 3 of `esc50-free` and from `more-free`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from streamer.config.schema import ModelSettings
from streamer.data.clips import entries
from streamer.errors import InputError
from streamer.inference.engines import open_engine
from streamer.model import hub
from streamer.teaching import bank
from streamer.teaching.clips import Clip, read_clip
from streamer.teaching.teach import embeddings_of, steps_of
from streamer.teaching.variants import KINDS, variants
from streamer.types import Samples

STEPS = 3
"""of each clip"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with esc50-free and more-free")
    parser.add_argument("--model", default="ast-tiny")
    parser.add_argument("--esc50", type=int, default=250, help="clips")
    parser.add_argument("--free", type=int, default=100, help="clips")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    engine = open_engine(ModelSettings(path=options.model), embeds=True)
    rows: list[Samples] = []
    for folds, folders, n in (((1, 2, 3), (), options.esc50), ((), ("more-free",), options.free)):
        found = entries(options.data, folds, folders)
        for i in rng.permutation(len(found))[: 2 * n]:
            if len(rows) >= (options.esc50 if folds else options.esc50 + options.free):
                break
            try:
                clip: Clip = read_clip(found[int(i)].path)
            except InputError:
                continue
            (variant,) = variants(clip, engine.window_s, rng, [KINDS[int(rng.integers(3))]])
            (scores,) = engine.score([variant.window])
            steps = steps_of([[variant]], [scores], [(1.0, embeddings_of(scores)[None])]).sound
            if len(steps) >= STEPS:
                rows.append(steps[np.sort(rng.choice(len(steps), STEPS, replace=False))])
    path = bank.write(hub.resolve(options.model), np.stack(rows))
    print(f"{path}: {len(rows)} clips, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
