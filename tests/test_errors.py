"""Errors for people are lines."""

from __future__ import annotations

import pickle

from streamer.errors import ConfigError, InputError


def test_an_argument_is_one_line() -> None:
    """A name with a line end in it forges no second one; an error of several lines says them apart."""
    assert str(InputError("a\nb.wav: no such file")) == r"a\nb.wav: no such file"
    assert str(ConfigError("one", "two\n")) == "one\ntwo\\n"
    assert str(pickle.loads(pickle.dumps(ConfigError("one", "two")))) == "one\ntwo"  # noqa: S301  # our own
