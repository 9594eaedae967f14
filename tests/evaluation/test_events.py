"""Events are held against the truth, and thresholds chosen by it."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamer.config.schema import Config
from streamer.data.synthesis import write_wav
from streamer.errors import InputError
from streamer.evaluation import bed
from streamer.evaluation.events import Count, Span, count, read_truth, total
from streamer.evaluation.false_alarms import RATE, Recording, background, scattered, write
from streamer.evaluation.thresholds import GRID, PROFILES, choose


def test_half_of_an_event_decides() -> None:
    """Right is what lies half in the truth; found is what right ones cover half of; sounds do not mix."""
    truth = [Span("dog", 0, 4), Span("dog", 10, 14), Span("cat", 20, 22)]
    heard = [Span("dog", 1, 5), Span("dog", 11, 12), Span("dog", 20, 22), Span("owl", 0, 1)]

    counts = count(truth, heard)

    assert counts["dog"] == Count(true=2, found=1, false=1)
    assert counts["cat"] == Count(true=1)
    assert counts["owl"] == Count(false=1)
    assert total([counts, counts])["dog"] == Count(true=4, found=2, false=2)


def rows(found: list[int], false: list[Counter[str]], true: int) -> list[Count]:
    return [Count(true, n, own.total(), own) for n, own in zip(found, false, strict=True)]


N = len(GRID)
SCATTERED = Counter({f"clip {i}": 1 for i in range(8)})
"""eight false alarms, each for another clip"""


def test_false_events_are_known_by_what_they_are_for() -> None:
    """The clip under most of the event, else the sound; where nothing sounds, the minute."""
    truth = [Span("cat", 0, 4, "cat.wav"), Span("owl", 3.5, 9)]
    detected = [Span("dog", 1, 4.5), Span("dog", 6, 7), Span("dog", 70, 71)]
    counts = count(truth, detected)
    assert counts["dog"].false_for == {"cat.wav": 1, "owl": 1, "minute 1": 1}
    assert total([counts, counts])["dog"].false_for == {"cat.wav": 2, "owl": 2, "minute 1": 2}
    assert counts["dog"].false_but_worst == 2


def test_the_threshold_at_which_most_is_found_is_taken() -> None:
    """Of those that keep to the limit; of equally good ones the middle one."""
    nothing = Counter[str]()
    timid = rows([10] * 5 + [0] * (N - 5), [nothing] * N, 10)
    assert choose(timid, 1.0, 1.0) == 2  # counts are smoothed: the first four are equal
    loud = rows([10] * N, [SCATTERED] * 6 + [nothing] * (N - 6), 10)
    assert choose(loud, 1.0, 1.0) == 11  # of 7 to 15
    falling = rows(list(range(N, 0, -1)), [SCATTERED] * 6 + [nothing] * (N - 6), N)
    assert choose(falling, 1.0, 1.0) == 7


def test_a_profile_bears_more_or_fewer_false_alarms() -> None:
    """Of the sound itself, in an hour of the recordings."""
    false = [
        Counter({f"{i}": 1 for i in range(n)}) for n in (16, 14, 12, 10, 8, 6, 5, 4, 3, 2, 1, 1, 0, 0, 0, 0)
    ]
    table = rows(list(range(N, 0, -1)), false, N)
    places = [choose(table, 2.0, most) for most in PROFILES.values()]
    assert places == sorted(places, reverse=True)
    assert len(set(places)) == len(PROFILES)


def test_no_clip_decides_alone() -> None:
    """Eight false alarms for one clip that comes again raise no threshold; for eight clips they do."""
    nothing = Counter[str]()
    found = list(range(N, 0, -1))
    one_clip = rows(found, [Counter({"clip": 8})] * 6 + [nothing] * (N - 6), N)
    many_clips = rows(found, [SCATTERED] * 6 + [nothing] * (N - 6), N)
    assert choose(one_clip, 1.0, 1.0) == 0
    assert choose(many_clips, 1.0, 1.0) > 5


def test_a_sound_that_never_occurs_is_quiet() -> None:
    """The lowest threshold that keeps to the limit, and the highest of the grid where none does."""
    nothing = Counter[str]()
    assert choose(rows([0] * N, [SCATTERED] * 8 + [nothing] * (N - 8), 0), 1.0, 1.0) == 9
    assert choose(rows([0] * N, [SCATTERED] * N, 0), 1.0, 1.0) == N - 1


def test_a_truth_that_is_none_is_said(tmp_path: Path) -> None:
    """No file, or another table: one line with its name."""
    with pytest.raises(InputError, match=r"none\.tsv"):
        read_truth(tmp_path / "none.tsv")
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputError, match=r"other\.tsv: not a table of onset"):
        read_truth(tmp_path / "other.tsv")


def test_recordings_of_nothing_are_what_they_say(tmp_path: Path) -> None:
    """A room has its length and never clips; other sounds lie in a row, and the truth names them."""
    rng = np.random.default_rng(1)
    room = background(rng, minutes=1.0)
    assert room.shape == (60 * RATE,)
    assert 0 < np.abs(room).max() < 1
    clip = np.sin(np.arange(5 * RATE) * 0.3).astype(np.float32)
    samples, spans = scattered(rng, [("a", "1", clip), ("b", "2", clip[: 2 * RATE])], minutes=1.0)
    assert len(samples) == len(room)
    assert spans[0].onset == 0
    assert all(later.onset == sooner.offset for sooner, later in pairwise(spans))
    assert {(span.sound, span.offset - span.onset) for span in spans} == {("a", 5.0), ("b", 2.0)}
    written = write(tmp_path, Recording("others", samples, spans, ""))
    assert read_truth(written.with_suffix(".tsv")) == spans


def test_a_bed_is_music_speech_and_ambience(tmp_path: Path) -> None:
    """In turn, each where its truth says; clips that may hold a configured sound are left out."""
    for i, name in enumerate(("music", "speech", "rain", "bark")):
        tone = np.sin(np.arange(8 * RATE) * (i + 1) * 0.1).astype(np.float32)
        write_wav(tmp_path / f"{name}.wav", tone, RATE)
    rows = ["file,labels,unsure,source", "music.wav,Music|Guitar,,a", "speech.wav,Speech,,a"]
    (tmp_path / "bed.csv").write_text("\n".join([*rows, "rain.wav,Rain,Wind,b", "bark.wav,Music,Bark,b"]))
    config = Config.model_validate(
        {
            "sources": {"here": {"microphone": "default"}},
            "sounds": {"dog": {"labels": ["Dog"]}, "voice": {"labels": ["Speech"]}},
        }
    )
    clips = bed.choose_clips([tmp_path / "bed.csv"], config)
    assert {kind: [path.name for path in files] for kind, files in clips.items()} == {
        "music": ["music.wav"],
        "speech": ["speech.wav"],
        "ambience": ["rain.wav"],
    }
    room = np.zeros(600 * RATE, np.float32)
    samples, spans = bed.lay(np.random.default_rng(1), room, RATE, clips)
    assert {span.sound for span in spans} == {"music", "speech", "ambience"}
    loud = np.zeros(len(room), bool)
    for span in spans:
        loud[round(span.onset * RATE) : round(span.offset * RATE)] = True
    assert not samples[~loud].any()
    assert np.square(samples[loud]).mean() > 1e-5
    assert {span.sound for span in bed.truth(spans, config)} == {"music", "voice", "ambience"}
    (tmp_path / "bed.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match="no clip of ambience"):
        bed.choose_clips([tmp_path / "bed.csv"], config)
