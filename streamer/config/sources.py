"""What a source may be: a microphone, a stream, a command, a satellite, a node, the demo; and its keys."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag

from streamer.config.yaml import NAME, DisplayName, Section, written_out


class CommonSourceSettings(Section):
    """What every source has."""

    name: DisplayName | None = None
    """What people read, in any script, where its key is not good enough; the key stays in topics and ids."""
    area: DisplayName | None = None
    """The room that Home Assistant suggests for its device."""
    calibration_db: Annotated[float, Field(ge=-50, le=200)] | None = None
    """What a sound level meter reads, dB(A), minus the level shown without it; levels are then in dB(A)."""


class ChannelSettings(CommonSourceSettings):
    """What every source has that may have several channels."""

    channel: Literal["mix"] | Annotated[int, Field(ge=1, le=64)] = "mix"
    """The channel to listen to, counted from 1; `mix` is the mean of all."""


class MicrophoneSettings(ChannelSettings):
    """An input of this machine, found by name, so that it may be unplugged and come back."""

    microphone: str
    """Part of the device's name as `streamer devices` shows it, or `default`."""
    fallback: Literal["demo"] | None = None
    """What to play, again and again, on a machine without any microphone."""


def _in_home(address: str) -> str:
    """`~/a.wav` is a file in the home directory, as everywhere else in the file."""
    return str(written_out(Path(address))) if address.startswith("~") else address


class StreamSettings(ChannelSettings):
    """A file, a camera or a web radio; only its sound is read."""

    stream: Annotated[str, Field(min_length=1), AfterValidator(_in_home)]
    """A file, or an rtsp://, rtsps://, http:// or https:// address."""
    pace: Literal["realtime", "fast"] = "realtime"
    """Whether a file is read at the pace at which it was recorded, or as fast as possible."""
    loop: bool = False
    """Whether a file is played again when it ends."""


class CommandSettings(ChannelSettings):
    """A program that writes raw PCM to its standard output."""

    command: Annotated[list[str], Field(min_length=1)]
    """The program and its arguments."""
    sample_rate: Annotated[int, Field(ge=4000, le=384000)] = 16000
    """Sample rate of its output, in Hertz."""
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of interleaved channels of its output."""
    sample_format: Literal["s16le", "s32le", "f32le"] = "s16le"
    """Sample format of its output."""


def _has_a_port(address: str) -> str:
    """Raises ValueError where the port is none."""
    urlsplit(f"//{address.removeprefix('tcp://')}").port  # noqa: B018  # reading it checks it
    return address


class WyomingSettings(ChannelSettings):
    """A voice satellite or a microphone that speaks Wyoming, as those of Home Assistant do."""

    wyoming: Annotated[
        str,
        Field(pattern=r"^(tcp://)?([^\s/?#@:\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$"),
        AfterValidator(_has_a_port),
    ]
    """`HOST` or `HOST:PORT`; the port is 10700 where not set."""


class NodeSettings(CommonSourceSettings):
    """A microphone at another machine, where `streamer capture` runs and sends its audio here."""

    node: Annotated[str, Field(pattern=NAME)]
    """Name of the node, as its own configuration has it; the section `gateway` says who may connect."""


class DemoSettings(ChannelSettings):
    """The recording that the program synthesises itself."""

    demo: Literal[True]
    """Always `true`."""
    pace: Literal["realtime", "fast"] = "realtime"
    """Whether it is played at its own pace, or as fast as possible."""
    loop: bool = False
    """Whether it is played again when it ends."""


AnySourceSettings: TypeAlias = (
    Annotated[MicrophoneSettings, Tag("<microphone>")]
    | Annotated[StreamSettings, Tag("<stream>")]
    | Annotated[CommandSettings, Tag("<command>")]
    | Annotated[WyomingSettings, Tag("<wyoming>")]
    | Annotated[NodeSettings, Tag("<node>")]
    | Annotated[DemoSettings, Tag("<demo>")]
)
"""Every kind of source, tagged with the key that makes a source what it is."""


def kinds_of(union: Any) -> dict[str, type[CommonSourceSettings]]:
    """The settings of a union, by their key."""
    return {tag.tag.strip("<>"): settings for settings, tag in map(get_args, get_args(union))}


def has_one_of(kinds: Collection[str], what: str) -> Discriminator:
    """Tells the settings of a union by the key that they have, and refuses none or several."""

    def kind(value: object) -> str | None:
        keys = type(value).model_fields if isinstance(value, Section) else value
        found = [kind for kind in kinds if isinstance(keys, dict) and kind in keys]
        return f"<{found[0]}>" if len(found) == 1 else None

    return Discriminator(
        kind,
        custom_error_type="source_kind",
        custom_error_message=f"{what} has exactly one of: {', '.join(kinds)}",
    )


KINDS = kinds_of(AnySourceSettings)

SourceSettings: TypeAlias = Annotated[AnySourceSettings, has_one_of(KINDS, "a source")]
"""One place that is listened to."""
