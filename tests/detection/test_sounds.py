"""Labels become sounds."""

import numpy as np
import pytest

from streamer.detection.sounds import Sounds
from streamer.errors import ConfigError

LABELS = ("Dog", "Bark", "Cat", "Smoke detector, smoke alarm")


def test_a_sound_scores_as_its_strongest_label() -> None:
    """Rows are moments; a label may serve two sounds, and sounds may list labels in any order."""
    sounds = Sounds({"pet": ["Cat", "Dog"], "dog": ["Bark", "Dog"], "alarm": [LABELS[3]]}, LABELS)
    scores = np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.5, 0.0, 0.0]], np.float32)

    picked = sounds.pick(scores)

    np.testing.assert_array_equal(
        sounds.highest(picked), np.array([[0.3, 0.2, 0.4], [0.9, 0.9, 0.0]], np.float32)
    )
    np.testing.assert_array_equal(picked[:, sounds.parts["dog"]], scores[:, [1, 0]])
    assert len(sounds) == picked.shape[1] == 5


def test_every_unknown_label_is_named_with_its_sound_and_the_nearest_label() -> None:
    """All mistakes come at once; a label that is like none gets no guess."""
    with pytest.raises(ConfigError) as error:
        Sounds({"dog": ["Barks", "Dog"], "alarm": ["smoke detector", "qqq"]}, LABELS)

    assert str(error.value).splitlines() == [
        "sounds.dog.labels: the model has no label 'Barks', did you mean 'Bark'?",
        "sounds.alarm.labels: the model has no label 'smoke detector', "
        "did you mean 'Smoke detector, smoke alarm'?",
        "sounds.alarm.labels: the model has no label 'qqq'",
    ]


def test_a_taught_sound_that_was_not_loaded_is_named() -> None:
    """What is taught while the daemon runs is there after a restart; a reload says so."""
    with pytest.raises(ConfigError) as error:
        Sounds({"bell": ["taught: our_bell"], "dog": ["Dog"]}, LABELS)

    assert str(error.value) == (
        "sounds.bell.taught: 'our_bell' was not loaded with the model;"
        " after `streamer teach our_bell`, restart"
    )
