"""Clips that cannot be learned from are refused, each with one line that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamer.data.synthesis import write_wav
from streamer.errors import InputError
from streamer.teaching.clips import check_clips, read_clip, read_clips
from streamer.types import Samples
from tests.teaching.melody import RATE, clips, recording


def written(path: Path, samples: Samples) -> Path:
    write_wav(path, samples, RATE)
    return path


def tone(seconds: float, hertz: float = 700.0) -> Samples:
    t = np.arange(int(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


BAD = {
    "silent": np.zeros(RATE, np.float32),
    "clipped": np.clip(8 * tone(1.0), -0.9, 0.9),
    "too short": np.concatenate((np.zeros(RATE), tone(0.04), np.zeros(RATE))).astype(np.float32),
    "longer than 60 s": tone(61.0),
}


def test_an_offset_is_no_sound(tmp_path: Path) -> None:
    """A file of nothing but a constant is silent, and a constant in it changes nothing of a clip."""
    with pytest.raises(InputError, match=r"clip\.wav: silent"):
        read_clip(written(tmp_path / "clip.wav", np.full(RATE, 0.5, np.float32)))

    plain = read_clip(written(tmp_path / "plain.wav", recording(4.0, 1.0, seed=0)))
    shifted = read_clip(written(tmp_path / "shifted.wav", recording(4.0, 1.0, seed=0) * 0.5 + 0.3))
    assert shifted.active.tolist() == plain.active.tolist()
    np.testing.assert_allclose(shifted.samples, plain.samples, atol=0.01)


@pytest.mark.parametrize("why", BAD)
def test_a_clip_that_teaches_nothing_is_refused(why: str, tmp_path: Path) -> None:
    """Silent, clipped, too short, too long: one line names the file and the reason."""
    path = written(tmp_path / "clip.wav", BAD[why])

    with pytest.raises(InputError, match=rf"clip\.wav: .*{why}") as error:
        read_clip(path)

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("hertz", [60.0, 100.0, 440.0])
def test_a_pure_tone_is_not_clipped(hertz: float, tmp_path: Path) -> None:
    """A low tone is near its peak for long, and is fine."""
    clip = read_clip(written(tmp_path / "hum.wav", tone(1.0, hertz)))

    assert clip.active.tolist() == [[0.0, pytest.approx(1.0)]]


def test_all_bad_clips_are_named_at_once(tmp_path: Path) -> None:
    """Two bad files are two lines of one error; nobody mends them one by one."""
    bad = [written(tmp_path / f"{i}.wav", np.zeros(RATE, np.float32)) for i in range(2)]

    with pytest.raises(InputError) as error:
        read_clips([*bad, tmp_path / "missing.wav"])

    assert len(str(error.value).splitlines()) == 3


def test_it_is_known_when_a_clip_sounds(tmp_path: Path) -> None:
    """What lies around the sound in its file is no part of it."""
    clip = read_clip(written(tmp_path / "clip.wav", recording(4.0, 1.0, seed=0)))

    assert clip.active[0, 0] == pytest.approx(1.0, abs=0.05)
    assert clip.active[-1, 1] == pytest.approx(2.6, abs=0.3)


def test_too_few_clips(tmp_path: Path) -> None:
    """Two clips are no examples."""
    with pytest.raises(InputError, match="2 clips are too few: 3 are needed"):
        check_clips("chime", read_clips(clips(tmp_path, 2)), [])


def test_all_alike(tmp_path: Path) -> None:
    """One recording three times, at three levels, is one example."""
    same = recording(3.0, 0.5, seed=1)
    paths = [written(tmp_path / f"{i}.wav", same / (i + 1)) for i in range(3)]

    with pytest.raises(InputError, match="all alike: only 1 of 3 clips"):
        check_clips("chime", read_clips(paths), [])


def test_a_clip_on_both_sides_contradicts(tmp_path: Path) -> None:
    """The same recording cannot be it and not be it."""
    own = read_clips(clips(tmp_path, 4))
    copy = written(tmp_path / "copy.wav", own[2].samples * np.float32(0.5))

    with pytest.raises(InputError, match=r"melody3\.wav and .*copy\.wav are the same recording"):
        check_clips("chime", own, read_clips([copy]))
