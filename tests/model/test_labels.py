"""The label sets of published models."""

from streamer.model.labels import AUDIOSET, ESC50, SPEECH_COMMANDS


def test_sets() -> None:
    """As many names as the models have outputs, none twice, and in the published order."""
    for labels, n in ((AUDIOSET, 527), (SPEECH_COMMANDS, 35), (ESC50, 50)):
        assert len(labels) == len(set(labels)) == n
    assert (AUDIOSET[0], AUDIOSET[74], AUDIOSET[526]) == ("Speech", "Dog", "Field recording")
    assert (SPEECH_COMMANDS[0], SPEECH_COMMANDS[34]) == ("backward", "one")
    assert (ESC50[0], ESC50[42], ESC50[49]) == ("dog", "siren", "hand_saw")
