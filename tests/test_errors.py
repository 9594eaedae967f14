"""Errors for people are lines."""

from __future__ import annotations

import pickle

import pytest

from streamer.errors import ConfigError, InputError, for_people


def test_an_argument_is_one_line() -> None:
    """A name with a line end in it forges no second one; an error of several lines says them apart."""
    assert str(InputError("a\nb.wav: no such file")) == r"a\nb.wav: no such file"
    assert str(ConfigError("one", "two\n")) == "one\ntwo\\n"
    assert str(pickle.loads(pickle.dumps(ConfigError("one", "two")))) == "one\ntwo"  # noqa: S301  # our own


@pytest.mark.parametrize("reason", ["failed to map segment from shared object", "Cannot allocate memory"])
def test_a_library_without_room_is_a_lack_of_memory(reason: str) -> None:
    """As under `ulimit -v`; another library that cannot be loaded stays a fault with its stack."""
    told = for_people(ImportError(f"libtorch_python.so: {reason}"))
    assert str(told) == "not enough memory: close programs, or take a smaller model"
    assert told is not None
    assert told.exit_code == 71
    assert for_people(ImportError("libtorch_python.so: undefined symbol: x")) is None
