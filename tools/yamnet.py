"""The peer: YAMNet, the model that most home projects use, as a tagger of AudioSet labels.

    python -m tools.yamnet recording.wav scores.tsv --folder data/yamnet --groups groups.yaml

writes its scores over time by groups of labels, in the format of sed_scores_eval. That needs soundfile, scipy
and PyYAML, and runs in the environment of the soundscape tools.

https://github.com/tensorflow/models/tree/master/research/audioset/yamnet; windows of 0.975 s, half
overlapped, the highest score of each label. It knows 521 of the 527 labels; the others score 0.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from streamer.errors import UsageError
from streamer.model.labels import AUDIOSET
from streamer.types import Samples

RATE = 16000
_WINDOW, _HOP = 15600, 7800


class Yamnet:
    def __init__(self, folder: Path) -> None:
        """`folder` holds `yamnet.tflite` and `yamnet_class_map.csv`. Raises UsageError."""
        try:
            from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  # for this comparison alone
        except ImportError as error:
            raise UsageError("YAMNet needs a package that is not here: pip install ai-edge-litert") from error
        self._interpreter = Interpreter(model_path=str(folder / "yamnet.tflite"), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        with (folder / "yamnet_class_map.csv").open(newline="", encoding="utf-8") as file:
            column = {row["display_name"]: int(row["index"]) for row in csv.DictReader(file)}
        self._columns = [column.get(label, -1) for label in AUDIOSET]

    def score(self, samples: Samples) -> Samples:
        """(n,) at 16 kHz -> (527,): the highest over the windows."""
        highest: Samples = self.windows(samples).max(axis=0)
        return highest

    def windows(self, samples: Samples) -> Samples:
        """(n,) at 16 kHz -> (n_windows, 527): windows of 0.975 s, one each half of that."""
        samples = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
        rows = []
        for begin in range(0, len(samples) - _WINDOW + 1, _HOP):
            window = samples[begin : begin + _WINDOW].reshape(self._input["shape"])
            self._interpreter.set_tensor(self._input["index"], window)
            self._interpreter.invoke()
            rows.append(np.append(self._interpreter.get_tensor(self._output["index"])[0], np.float32(0)))
        return np.array(rows)[:, self._columns]


def over_time(windows: Samples) -> Samples:
    """(n, k) of half overlapping windows -> (n + 1, k) of half windows: the mean of those that cover each."""
    padded = np.concatenate((windows[:1], windows, windows[-1:]))
    means: Samples = (padded[:-1] + padded[1:]) / np.float32(2)
    return means


def write_scores(path: Path, scores: Samples, names: Sequence[str], step_s: float) -> None:
    """(n, k) scores as a table with tabs: onset, offset, a column a name."""
    lines = ["\t".join(("onset", "offset", *names))]
    for i, row in enumerate(scores):
        values = "\t".join(f"{value:.4f}" for value in row)
        lines.append(f"{i * step_s:.4f}\t{(i + 1) * step_s:.4f}\t{values}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Scores of YAMNet over time, by groups of labels.")
    parser.add_argument("recording", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="with yamnet.tflite")
    parser.add_argument("--groups", type=Path, required=True, help="groups.yaml of the soundscape tools")
    options = parser.parse_args(arguments)
    import soundfile  # noqa: PLC0415  # of the tools' environment, as the others
    import yaml  # noqa: PLC0415
    from scipy.signal import resample_poly  # noqa: PLC0415

    groups: Mapping[str, Mapping[str, list[str]]] = yaml.safe_load(options.groups.read_text("utf-8"))[
        "groups"
    ]
    samples, rate = soundfile.read(options.recording, dtype="float32")
    samples = resample_poly(samples, RATE, rate).astype(np.float32)
    scores = over_time(Yamnet(options.folder).windows(samples))
    columns = [[AUDIOSET.index(label) for label in group["audioset"]] for group in groups.values()]
    by_group = np.stack([scores[:, own].max(axis=1) for own in columns], axis=1)
    write_scores(options.out, by_group, list(groups), _HOP / RATE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
