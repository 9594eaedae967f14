"""Topics from names."""

from __future__ import annotations

import pytest

from streamer.errors import ConfigError
from streamer.mqtt.topics import Topics


def test_topics() -> None:
    """The topics are those that other programs were told."""
    topics = Topics("home/streamer", "pi")
    assert topics.status == "home/streamer/pi/status"
    assert topics.stats == "home/streamer/pi/stats"
    assert topics.source_status("hall") == "home/streamer/pi/hall/status"
    assert topics.event("hall", "start") == "home/streamer/pi/hall/event/start"
    assert topics.sound_state("hall", "dog_bark") == "home/streamer/pi/hall/sound/dog_bark/state"
    assert topics.sound_attributes("hall", "dog_bark") == "home/streamer/pi/hall/sound/dog_bark/attributes"
    assert topics.last("hall") == "home/streamer/pi/hall/last"
    assert topics.level("hall") == "home/streamer/pi/hall/level"


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#", "Hall", "a\0", "-a", "a" * 65, "a\n"])
def test_a_name_cannot_leave_its_level(name: str) -> None:
    """No name adds a level, a wildcard or an empty level to a topic."""
    with pytest.raises(ConfigError, match="topic"):
        Topics("streamer", name)
    with pytest.raises(ConfigError, match="topic"):
        Topics("streamer", "pi").event(name, "start")
    with pytest.raises(ConfigError, match="topic"):
        Topics("streamer", "pi").sound_state("hall", name)


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "$SYS", "a/#", "+", "a\0"])
def test_a_prefix_begins_a_topic(prefix: str) -> None:
    """No empty level, no wildcard, nothing under the broker's own topics."""
    with pytest.raises(ConfigError, match=r"mqtt\.prefix"):
        Topics(prefix, "pi")
