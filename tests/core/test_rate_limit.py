"""The same problem is logged once in a while."""

from __future__ import annotations

import time

from streamer.core.rate_limit import RateLimit


def test_each_kind_is_due_once() -> None:
    """A kind that was just logged is not due; another kind is."""
    limit = RateLimit()
    assert [limit.due("down"), limit.due("down"), limit.due("refused")] == [True, False, True]


def test_what_was_over_is_due_again() -> None:
    """A problem that comes back is news; so is one that goes on for longer than the pace."""
    limit = RateLimit(pace_s=0.05)
    assert limit.due()
    limit.forget()
    assert limit.due()
    assert not limit.due()
    time.sleep(0.06)
    assert limit.due()
