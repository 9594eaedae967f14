"""The configuration of a capture node: one source, and where its audio goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, Tag, model_validator

from streamer.config.sources import (
    CommandSettings,
    CommonSourceSettings,
    MicrophoneSettings,
    StreamSettings,
    has_one_of,
    kinds_of,
)
from streamer.config.yaml import NAME, File, Section, load_yaml
from streamer.core.addresses import is_loopback


def _is_captured(source: CommonSourceSettings) -> CommonSourceSettings:
    misplaced = source.model_fields_set & ({*CommonSourceSettings.model_fields} | {"fallback"})
    if misplaced:
        raise ValueError(f"{', '.join(sorted(misplaced))}: this belongs to the source at the server")
    if isinstance(source, StreamSettings) and source.pace == "fast":
        raise ValueError("pace: a node sends in real time")
    return source


AnyCapturedSource: TypeAlias = (
    Annotated[MicrophoneSettings, Tag("<microphone>")]
    | Annotated[StreamSettings, Tag("<stream>")]
    | Annotated[CommandSettings, Tag("<command>")]
)
CapturedSource: TypeAlias = Annotated[
    AnyCapturedSource,
    has_one_of(kinds_of(AnyCapturedSource), "a node's source"),
    AfterValidator(_is_captured),
]


class CaptureSettings(Section):
    """One capture node: a source of this machine whose audio is sent to a gateway."""

    node: Annotated[str, Field(pattern=NAME)]
    """Name of this node, as a source of the server has it."""
    to: Annotated[str, Field(pattern=r"^wss?://[^\s/?#@]+/?$")]
    """Address of the gateway: `wss://HOST:PORT`; `ws://` only within this machine."""
    source: CapturedSource
    """What is captured: a microphone, a stream or a command, as in the server's configuration."""
    token_file: File | None = None
    """File whose first line is the token. systemd's credential `node-token` goes before it."""
    ca_file: File | None = None
    """Certificates to trust, PEM; those of the system where not set."""
    cert_file: File | None = None
    """Certificate of this node, PEM, where the gateway asks for one instead of a token."""
    key_file: File | None = None
    """Private key of the certificate, PEM; in `cert_file` where not set."""
    codec: Literal["flac", "int16"] = "flac"
    """Without loss, at a little over half of the size; or plain samples, for a processor that is too weak."""
    sample_rate: Annotated[int, Field(ge=8000, le=192000)] = 16000
    """Hertz that are sent; 16000 is what the models hear."""
    keep_s: Annotated[float, Field(ge=10, le=600)] = 60.0
    """Seconds of audio that are kept while the gateway cannot be reached."""
    gate_dbfs: Annotated[float, Field(ge=-120, le=0)] | None = None
    """Level below which only the level is sent, once a second; where not set, all audio is."""

    @property
    def is_local(self) -> bool:
        """Nothing leaves this machine."""
        return is_loopback(urlsplit(self.to).hostname or "")

    @model_validator(mode="after")
    def _nothing_in_the_clear(self) -> CaptureSettings:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        if self.to.startswith("ws:") and not self.is_local:
            raise ValueError(f"{self.to}: audio and token would cross the network in the clear; use wss://")
        return self


def load_capture(path: str | Path) -> CaptureSettings:
    """Read and check a file. Raises one ConfigError, with a line for each thing that is wrong."""
    return load_yaml(path, lambda _: CaptureSettings, example="configs/capture/node.yaml")
