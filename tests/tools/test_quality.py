"""What the comparison beside a peer needs around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamer.errors import UsageError
from streamer.evaluation.events import Span, read_truth
from tools.quality import find_tools, write_events


def test_what_a_listener_is_told_becomes_a_table(tmp_path: Path) -> None:
    """Times of the end, the moment of the start; sounds that the truth does not know are left out."""
    common = {"id": "a", "sound": "dog"}
    messages = [
        common | {"phase": "start", "onset": 1.5, "offset": None, "emitted_at": 3.0},
        {"id": "b", "sound": "owl", "phase": "start", "onset": 2.0, "offset": None, "emitted_at": 4.0},
        common | {"phase": "end", "onset": 1.0, "offset": 2.5, "emitted_at": 5.0},
        {"id": "b", "sound": "owl", "phase": "end", "onset": 2.0, "offset": 3.0, "emitted_at": 6.0},
    ]
    write_events(tmp_path / "events.tsv", messages, {"dog"})

    assert (tmp_path / "events.tsv").read_text().splitlines() == [
        "onset\toffset\tevent_label\treported_at",
        "1.000\t2.500\tdog\t3.000",
    ]
    assert read_truth(tmp_path / "events.tsv") == [Span("dog", 1.0, 2.5)]


def test_a_folder_without_the_tools_is_refused(tmp_path: Path) -> None:
    """Before anything is installed; the missing files are named."""
    with pytest.raises(UsageError, match=r"it has no make_soundscape\.py, .*requirements\.txt"):
        find_tools(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
