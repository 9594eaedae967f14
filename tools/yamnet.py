"""The peer: YAMNet, the model that most home projects use, as a tagger of AudioSet labels.

https://github.com/tensorflow/models/tree/master/research/audioset/yamnet; windows of 0.975 s, half
overlapped, the highest score of each label. It knows 521 of the 527 labels; the others score 0.
"""

from __future__ import annotations

import csv
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
        """(n,) at 16 kHz -> (527,)."""
        samples = np.pad(samples, (0, max(0, _WINDOW - len(samples))))
        highest = np.zeros(1, np.float32)
        for begin in range(0, len(samples) - _WINDOW + 1, _HOP):
            window = samples[begin : begin + _WINDOW].reshape(self._input["shape"])
            self._interpreter.set_tensor(self._input["index"], window)
            self._interpreter.invoke()
            highest = np.maximum(highest, self._interpreter.get_tensor(self._output["index"])[0])
        return np.append(highest, np.float32(0))[self._columns]
