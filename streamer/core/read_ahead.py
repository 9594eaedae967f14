"""Makes the next items in a thread while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class _End:
    """The last thing in the queue: there are no more items, for this reason."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def read_ahead(items: Iterable[T], n: int, name: str) -> Iterator[T]:
    """The items in their order, of which a thread called `name` makes up to `n` before they are asked for.

    Raises what making them raises, in its place. When the iterator is closed, making stops after an item.
    """
    made: queue.Queue[T | _End] = queue.Queue(n)
    stopped = threading.Event()

    def put(item: T | _End) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                made.put(item, timeout=0.1)
                return True
        return False

    def make() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as raised:  # it is raised where the items are used
            error = raised
        put(_End(error))

    thread = threading.Thread(target=make, name=name, daemon=True)
    thread.start()
    try:
        while not isinstance(item := made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
