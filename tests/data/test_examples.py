"""Folders and tables of labelled clips, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from streamer.data.audio import read_audio
from streamer.data.examples import (
    Example,
    check_labels,
    draw_share,
    occurring,
    read_examples,
    read_split,
    read_test,
)
from streamer.data.settings import ClipsSettings, DataSettings
from streamer.data.synthesis import write_wav
from streamer.errors import InputError
from streamer.model.config import FbankConfig
from streamer.training.augment import Augment
from streamer.training.dataset import Clips, balanced_chances
from streamer.training.settings import AugmentSettings
from tests.training.sounds import RATE, write_folder, write_table


def table(tmp_path: Path, text: str, name: str = "clips.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def clips(path: Path, **settings: Any) -> ClipsSettings:
    return ClipsSettings.model_validate({"path": str(path)} | settings)


def test_a_folder_is_a_class(tmp_path: Path) -> None:
    """Each folder names a class; lists of files choose among them; `_` and `.` are no classes."""
    root = write_folder(tmp_path / "clips")
    (root / "_background_noise_").mkdir()
    (root / "siren" / "notes.txt").write_text("no clip")
    chosen = table(tmp_path, "siren/0.wav\nsmoke_alarm/1.wav\n", "testing_list.txt")

    everything = read_examples(clips(root))
    assert occurring(everything) == ["siren", "smoke_alarm"]
    assert len(everything) == 6
    named = [e.path.relative_to(root).as_posix() for e in read_examples(clips(root, only=[str(chosen)]))]
    assert named == ["siren/0.wav", "smoke_alarm/1.wav"]
    assert len(read_examples(clips(root, without=[str(chosen)]))) == 4


def test_a_table_names_clips_labels_and_times(tmp_path: Path) -> None:
    """Rows of the same excerpt are one clip with all labels; labels may hold commas; TSV reads alike."""
    text = 'file,labels,onset,offset\na.wav,"Speech, male|Music",1.5,3\na.wav,Dog,1.5,3\nb.wav,,,\n'
    path = table(tmp_path, text)
    tsv = table(tmp_path, text.replace('"', "").replace(", m", "; m").replace(",", "\t"), "clips.tsv")

    first, second = read_examples(clips(path))
    assert first.labels == ("Speech, male", "Music", "Dog")
    assert (first.path, first.onset_s, first.offset_s) == (tmp_path / "a.wav", 1.5, 3.0)
    assert (second.labels, second.onset_s, second.offset_s) == ((), 0.0, None)
    assert [e.labels for e in read_examples(clips(tsv))] == [("Speech; male", "Music", "Dog"), ()]


def test_folds_validate_and_are_judged(tmp_path: Path) -> None:
    """The held-out rows validate, the others train, and both are taken by `where`."""
    path = write_table(tmp_path / "clips", n=4)
    data = DataSettings.model_validate({"train": {"path": str(path)}, "held_out": {"value": 2}})
    training, validation = read_split(data)
    assert (len(training), len(validation)) == (9, 3)
    assert read_test(data) == validation
    assert read_examples(clips(path, where={"fold": [2]})) == validation


@pytest.mark.parametrize(
    ("text", "settings", "told"),
    [
        ("name,labels\n", {}, "clips.csv:1: no column 'file'; it has name, labels"),
        ("file,labels\na.wav\n", {}, "clips.csv:2: has fewer values than the header"),
        ("file,labels,onset,offset\na.wav,x,3,1\n", {}, "clips.csv:2: .* ends .1 s. before it begins .3 s."),
        ("file,labels,onset\na.wav,x,soon\n", {}, "clips.csv:2: onset should be seconds, not 'soon'"),
        ("file,labels\na.wav,x\n", {"where": {"fold": [1]}}, "no column 'fold'"),
        ("file,labels\n", {}, "not a single clip is left"),
    ],
)
def test_a_bad_table_is_explained_by_line(
    tmp_path: Path, text: str, settings: dict[str, Any], told: str
) -> None:
    """What is wrong with a table is said with its line."""
    with pytest.raises(InputError, match=told):
        read_examples(clips(table(tmp_path, text), **settings))


def test_bad_folders_are_explained(tmp_path: Path) -> None:
    """No folder at all, none for a class, and a class without clips are told apart."""
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read_examples(clips(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="make one for each class"):
        read_examples(clips(tmp_path))
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="cat: the class is empty"):
        read_examples(clips(tmp_path))


def test_an_unknown_label_is_named_with_the_nearest(tmp_path: Path) -> None:
    """A label that the model does not have is an error with file, line and the nearest label."""
    path = table(tmp_path, "file,labels\na.wav,Dog\nb.wav,Dogg\n")
    with pytest.raises(InputError, match=r"clips.csv:3: unknown label 'Dogg', did you mean 'Dog'"):
        check_labels(read_examples(clips(path)), ["Cat", "Dog"])
    with pytest.raises(InputError, match=r"clips.csv:2: 2 labels; cross entropy wants one"):
        path = table(tmp_path, "file,labels\na.wav,Dog|Cat\n")
        check_labels(read_examples(clips(path)), ["Cat", "Dog"], exactly_one=True)


def test_a_drawn_share_holds_classes_and_files_together(tmp_path: Path) -> None:
    """Classes with two files validate, one with a single file trains; excerpts of a file stay together."""
    examples = [
        Example(tmp_path / f"{label}{i // 2}", (label,), float(i)) for label in "ab" for i in range(8)
    ]
    examples.append(Example(tmp_path / "c", ("c",)))
    training, validation, small = draw_share(examples, 0.25, seed=1)
    assert small == ["c"]
    assert occurring(validation) == ["a", "b"]
    assert not {e.path for e in training} & {e.path for e in validation}
    assert len(training) + len(validation) == len(examples)
    assert draw_share(examples, 0.25, seed=1)[1] == validation


def test_balanced_chances_make_labels_equal() -> None:
    """Rare labels come as often as frequent ones."""
    examples = [Example(Path("x"), (label,)) for label in "aaab"]
    np.testing.assert_allclose(balanced_chances(examples), [1 / 6, 1 / 6, 1 / 6, 1 / 2])


@pytest.mark.parametrize("onset_s", [0.25, 7.0])
def test_an_excerpt_is_that_part_of_the_file(tmp_path: Path, onset_s: float) -> None:
    """Onset and offset cut to the sample, also where the file is not decoded from its start."""
    samples = np.linspace(-0.9, 0.9, 10 * RATE, dtype=np.float32)
    write_wav(tmp_path / "ramp.wav", samples, RATE)
    example = Example(tmp_path / "ramp.wav", (), onset_s, onset_s + 0.5)
    expected = samples[round(onset_s * RATE) : round((onset_s + 0.5) * RATE)]
    np.testing.assert_allclose(read_audio(example, RATE), expected, atol=1e-4)


def test_what_a_clip_becomes_depends_on_its_draw_alone(tmp_path: Path) -> None:
    """The same draw is the same, another place or epoch is not, and without an epoch nothing is random."""
    examples = read_examples(clips(write_folder(tmp_path / "clips")))
    augment = Augment(AugmentSettings(gain_db=6, shift_s=0.1, mixup=0.5, time_mask=9, feature_noise=0.1))
    config = FbankConfig(max_length=98)
    data = Clips(examples, ["siren", "smoke_alarm"], config, short="place", seed=3, augment=augment)

    first, target = data[(0, 1, 5)]
    assert torch.equal(first, data[(0, 1, 5)][0])
    assert not torch.equal(first, data[(0, 2, 5)][0])
    assert first.shape == (98, 128)
    assert target.sum() == pytest.approx(1)
    clean = Clips(examples, ["siren", "smoke_alarm"], config, short="place", seed=4)
    assert torch.equal(data[(0, None, 0)][0], clean[(0, None, 0)][0])


def test_mixup_shares_waveforms_and_targets() -> None:
    """A blend has both waveforms and both labels in the same shares."""
    augment = Augment(AugmentSettings(mixup=1.0))
    ones, halves = np.ones(100, np.float32), np.full(50, 0.5, np.float32)
    blend, share = augment.mix(ones, halves, np.random.default_rng(0))
    np.testing.assert_allclose(blend[:50], share + (1 - share) * 0.5, rtol=1e-6)
    np.testing.assert_allclose(blend[50:], share, rtol=1e-6)


def test_masks_are_zero_before_normalisation() -> None:
    """SpecAugment's masks are one band and one stretch, no wider than told, of the published value."""
    augment = Augment(AugmentSettings(time_mask=20, frequency_mask=10))
    config = FbankConfig()
    masked = augment.features(torch.ones(100, 128), config, np.random.default_rng(2)) != 1
    assert 0 < masked.all(dim=1).sum() < 20
    assert 0 < masked.all(dim=0).sum() < 10
    value = augment.features(torch.ones(100, 128), config, np.random.default_rng(2))[masked][0]
    assert value * 2 * config.std + config.mean == pytest.approx(0, abs=1e-5)
