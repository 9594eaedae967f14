"""What was taught is kept whole, is read only if it is whole, and fits only its own model."""

from __future__ import annotations

import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import ModelSettings
from streamer.errors import InputError, ModelError, StreamerError, UsageError
from streamer.inference.heads import Head
from streamer.model import hub, manifest
from streamer.teaching import record
from streamer.teaching.record import About, Taught

SIZE = 192


def taught(name: str = "chime", n: int = 40) -> Taught:
    rng = np.random.default_rng(0)
    fingerprint = manifest.fingerprint(hub.resolve("ast-tiny"))
    about = About(name, "ast-tiny", fingerprint, 1.7e9, ["a.wav", "b.wav", "c.wav"], ["d.wav"], 3, 50, 1)
    centre, weights = rng.normal(0, 1, (2, SIZE)).astype(np.float32)
    head = Head(name, centre.tolist(), weights.tolist(), -0.5)
    return Taught(about, head, rng.normal(0, 1, (n, SIZE)).astype(np.float32), np.arange(n) % 3)


def test_what_was_taught_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Numbers, names and counts; the audio is not in it."""
    one = taught()
    record.write(tmp_path, one)

    again = record.read(tmp_path, "chime")

    assert (again.about, again.head) == (one.about, one.head)
    np.testing.assert_allclose(again.embeddings, one.embeddings, atol=2e-3)  # half precision
    np.testing.assert_array_equal(again.clip, one.clip)
    assert record.names(tmp_path) == ["chime"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """Nothing half-written: one line, and the sound of before."""
    record.write(tmp_path, taught())
    larger = replace(taught(n=4000), about=replace(taught().about, clips=["new.wav"]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(StreamerError, match=r"chime\.npz: .*nothing was kept; make room"):
            record.write(tmp_path, larger)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

    assert record.read(tmp_path, "chime").about.clips == taught().about.clips
    assert [path.name for path in (tmp_path / "taught").iterdir()] == ["chime.npz"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not whole", b"no archive", None])
def test_a_damaged_file_is_reported(content: bytes | None, tmp_path: Path) -> None:
    """Cut off, overwritten or of something else: one line that says what to do."""
    path = record.write(tmp_path, taught())
    path.write_bytes(path.read_bytes()[:-400] if content is None else content)

    with pytest.raises(ModelError, match=r"is damaged: remove it .* and teach chime again"):
        record.read(tmp_path, "chime")


def test_another_model_is_refused(tmp_path: Path) -> None:
    """Numbers of one model mean nothing to another: the line says how to go on."""
    other = replace(taught().about, model="large", fingerprint="0" * 64)
    record.write(tmp_path, replace(taught(), about=other))

    with pytest.raises(
        ModelError, match=r"chime: was taught with another model \(large\) than ast-tiny: .*--replace"
    ):
        record.read_heads(tmp_path, ["chime"], ModelSettings())


@pytest.mark.parametrize("name", ["Door Bell", "../x", "", "a/b", "list", "test"])
def test_a_name_that_cannot_be_one(name: str, tmp_path: Path) -> None:
    """A name becomes a file, a label and a part of topics."""
    with pytest.raises(UsageError):
        record.path_of(tmp_path, name)


def test_a_sound_that_is_not_there(tmp_path: Path) -> None:
    """The line names those that are."""
    record.write(tmp_path, taught("gong"))

    for attempt in (record.read, record.remove):
        with pytest.raises(InputError, match="chime: was not taught; taught: gong"):
            attempt(tmp_path, "chime")


def test_a_removed_sound_is_gone(tmp_path: Path) -> None:
    """Its file, with the embeddings of its clips."""
    path = record.write(tmp_path, taught())

    record.remove(tmp_path, "chime")

    assert not path.exists()
