"""Items come in order, some of them ahead, and errors in their place; who stops asking stops the thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from streamer.core.read_ahead import read_ahead


def threads(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_items_are_made_ahead_and_come_in_order() -> None:
    """While the first is used the next are made, but no more than were asked for."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            made.append(i)
            yield i

    ahead = read_ahead(items(), 3, "ahead")
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert made == [0, 1, 2, 3, 4]  # three in the queue, one in the hand
    assert list(ahead) == list(range(1, 20))


def test_an_error_comes_after_the_items_before_it() -> None:
    """What was made is used first."""

    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    ahead = read_ahead(items(), 8, "ahead")
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(ahead)


def test_closing_ends_the_thread() -> None:
    """A file that nobody reads on is closed."""
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    ahead = read_ahead(items(), 2, "closed ahead")
    assert next(ahead) == 0
    ahead.close()  # type: ignore[attr-defined]  # a generator
    assert threads("closed ahead") == []
    assert closed.wait(10)
