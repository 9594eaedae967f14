"""FLAC of one hop. The only importer of soundfile."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile

from streamer.nodes.wire import LinkError
from streamer.types import Samples

Int16 = npt.NDArray[np.int16]


def as_float(samples: Int16) -> Samples:
    """(n,) -> (n,), -1..1."""
    return samples.astype(np.float32) / np.float32(32768)


def encode(samples: Int16, sample_rate: int) -> bytes:
    """(n,) -> a whole FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def decode(payload: bytes, n_samples: int) -> Int16:
    """(n_samples,). Raises LinkError where it is not so many samples of one channel with 16 bits."""
    try:
        with soundfile.SoundFile(io.BytesIO(payload)) as file:
            if (file.format, file.subtype, file.channels) != ("FLAC", "PCM_16", 1):
                raise LinkError(
                    f"{file.format}, {file.subtype}, {file.channels} channels: not what was agreed on"
                )
            samples: Int16 = file.read(n_samples + 1, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise LinkError(f"no FLAC: {error.error_string}") from None
    if len(samples) != n_samples:
        raise LinkError(f"the FLAC of a hop of {n_samples} samples has {len(samples)}, or more")
    return samples
