"""What the benchmark times: something that scores windows, whoever made it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from streamer.config.schema import ModelSettings
from streamer.types import Window

Score: TypeAlias = Callable[[Sequence[Window]], object]
Load: TypeAlias = Callable[[ModelSettings], tuple[str, Score]]
"""a dtype, and what scores windows in it"""
