"""Clips are decoded as the daemon decodes files."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from streamer.capture.stream import read_file
from streamer.data.audio import decode, read_audio
from streamer.data.examples import Example
from streamer.data.synthesis import write_wav
from streamer.errors import InputError

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)


def write(path: Path, layout: str, channels: list[np.ndarray]) -> Path:
    """A FLAC file with these channels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=RATE, layout=layout)
        packed = (np.stack(channels, axis=1) * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
        frame.rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_two_equal_channels_are_as_loud_as_one(tmp_path: Path) -> None:
    """The mean of the channels, not FFmpeg's weights, by which stereo is 3 dB louder."""
    samples = decode(write(tmp_path / "a.flac", "stereo", [TONE, TONE]), RATE)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=1e-3)


def test_surround_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    """A voice in the centre alone is a sixth of itself, in every command."""
    silence = np.zeros_like(TONE)
    path = write(tmp_path / "a.flac", "5.1", [silence, silence, TONE, silence, silence, silence])
    samples = decode(path, RATE)
    assert np.abs(samples).max() == pytest.approx(0.5 / 6, abs=1e-3)
    np.testing.assert_array_equal(samples, read_file(path)[0])


def test_a_part_of_a_file(tmp_path: Path) -> None:
    """From the onset to the offset, to the sample."""
    path = tmp_path / "a.wav"
    write_wav(path, TONE, RATE)
    whole = decode(path, RATE)
    part = read_audio(Example(path, ("Sine wave",), onset_s=0.5, offset_s=1.25), RATE)
    np.testing.assert_array_equal(part, whole[round(0.5 * RATE) : round(1.25 * RATE)])


def test_a_part_past_the_end(tmp_path: Path) -> None:
    """Is an error that names the file."""
    path = tmp_path / "a.wav"
    write_wav(path, TONE, RATE)
    with pytest.raises(InputError, match="no sound from 3 s on"):
        read_audio(Example(path, (), onset_s=3.0), RATE)
