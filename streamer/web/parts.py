"""What the routes show and change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from streamer.capture.tapes import Tapes
from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.web.commands import Commands
from streamer.web.feed import Feed
from streamer.web.sessions import Sessions
from streamer.web.shared import Shared


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API shows and changes."""

    config: Callable[[], Config]
    """the configuration in use, which a reload changes"""
    control: Control
    directory: Path | None
    """of the history; None where nothing can be kept"""
    report: Callable[[], Mapping[str, object]]
    """of `streamer status`"""
    feed: Feed
    tapes: Tapes
    """the last minute of each source that is listened to"""
    demos: Set[str]
    """sources that play the built-in recording, where there is no microphone"""
    commands: Commands
    sessions: Sessions
    zone: ZoneInfo
    zone_name: str
    heard: Callable[[str], str]
    """how well the model was measured to hear a sound, for people; empty where the sound needs no model"""
    shared: Shared | None = None
    """what is shown to whoever has a signed address; None where nothing is"""
