"""Did you mean …?"""

from __future__ import annotations

from streamer.core.nearest import nearest, suggestion

LABELS = ["Dog", "Smoke detector, smoke alarm", "Cat"]


def test_the_nearest_name() -> None:
    """Whatever the case; none where none is near."""
    assert nearest("dogg", LABELS) == "Dog"
    assert nearest("SMOKE DETECTOR", LABELS) == "Smoke detector, smoke alarm"
    assert nearest("violin", LABELS) is None


def test_the_suggestion() -> None:
    """A question for people, or nothing."""
    assert suggestion("dogg", LABELS) == "did you mean Dog?"
    assert suggestion("dogg", LABELS, quote=True) == "did you mean 'Dog'?"
    assert suggestion("violin", LABELS) == ""
