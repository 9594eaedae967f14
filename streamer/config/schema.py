"""The sections of a configuration file: what they may say, and with which defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from streamer.config.yaml import NAME, Section, load_yaml
from streamer.types import Priority

Id = Annotated[str, Field(pattern=NAME)]
"""A name that becomes a part of MQTT topics, and so must be safe there."""
File = Annotated[Path, Field(strict=False)]
"""A path, which YAML can only write as text; relative to the working directory."""
Score = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]


CadenceSetting: TypeAlias = Literal["any", "t3", "t4"]
LOUD = 0.5
"""the score of a level that is above the background by as much as the sound asks for"""


class SourceSettings(Section):
    """One place that is listened to: exactly one of microphone, stream, command, demo."""

    microphone: str | None = None
    """a part of the device's name, or `default`"""
    channel: Literal["mix"] | Annotated[int, Field(ge=1, le=64)] = "mix"
    """the mean of all channels, or one of them, counted from 1"""
    fallback: Literal["demo"] | None = None
    """what to play where there is no microphone at all"""

    stream: str | None = None
    """a file, or an rtsp://, http:// or https:// address"""
    pace: Literal["realtime", "fast"] = "realtime"
    """of a file: as it was recorded, or as fast as it can be read"""
    loop: bool = False
    """play a file again when it ends"""

    command: list[str] | None = None
    """a program, with its arguments, that writes raw PCM to its standard output"""
    sample_rate: Annotated[int, Field(ge=4000, le=384000)] = 16000
    """of the command's output, Hertz"""
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    """of the command's output, interleaved"""
    sample_format: Literal["s16le", "s32le", "f32le"] = "s16le"
    """of the command's output"""

    demo: bool = False
    """play the recording that the program makes itself"""

    calibration_db: Annotated[float, Field(ge=-50, le=200)] = 0.0
    """what a sound level meter shows, in dB(A), less what is shown here without it"""

    @model_validator(mode="after")
    def _one_kind(self) -> SourceSettings:
        kinds = [self.microphone is not None, self.stream is not None, self.command is not None, self.demo]
        if sum(kinds) != 1:
            raise ValueError("a source has exactly one of: microphone, stream, command, demo")
        if self.command is not None and not self.command:
            raise ValueError("command is empty: name a program and its arguments")
        return self


class ModelSettings(Section):
    path: str = "ast-tiny"
    """`ast-tiny` (shipped), a directory in Hugging Face format, or the name of a pulled model"""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of a forward pass; 0 leaves it to torch"""
    window_s: Annotated[float, Field(ge=0.2, le=60)] | None = None
    """shorter windows than the model was trained for: quicker, and less to go by; its own where not set"""
    position: Literal["cut", "interpolate"] = "cut"
    """how its positional embedding is made to fit a shorter window"""
    max_batch: Annotated[int, Field(ge=1, le=256)] = 16
    batch_wait_s: Annotated[float, Field(ge=0, le=1)] = 0.02
    """how long a window waits for company from other sources"""


class WindowSettings(Section):
    hop_s: Literal["auto"] | Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """`auto`: the shortest that keeps the model under half busy, measured at the start"""
    ring_s: Annotated[float, Field(ge=15, le=600)] = 60.0
    """how much audio of each source is kept in memory"""
    skip_quiet: bool = True
    """where a room sounds as it did the last minute, only one window in half a window's length is scored"""


class DetectionSettings(Section):
    """What holds for every sound that does not say otherwise."""

    on: Score = 0.5
    """a sound begins where its score reaches this"""
    off: Score | None = None
    """and ends where it falls below this; 0.5 * on where not set"""
    confirm: Annotated[int, Field(ge=1, le=60)] = 1
    """hops that must agree before an event starts"""
    confirm_of: Annotated[int, Field(ge=1, le=60)] | None = None
    """among so many; as many as `confirm`, so all in a row, where not set"""
    smoothing_s: Annotated[float, Field(ge=0, le=5)] = 0.44
    """length of the median over frame scores"""
    min_duration_s: Seconds = 0.0
    """what is shorter is no event"""
    merge_gap_s: Seconds = 1.0
    """a pause shorter than this does not end an event"""
    announce_s: Annotated[float, Field(ge=0, le=8)] = 1.0
    """how old a moment is when it may start an event: more waiting, more windows have seen it"""
    update_s: Annotated[float, Field(ge=1, le=3600)] = 5.0
    """the pace of updates while an event goes on"""
    cooldown_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    """for so long after an event that notifies, the next ones of its sound are told, but do not notify"""

    @model_validator(mode="after")
    def _hysteresis(self) -> DetectionSettings:
        if self.off is not None and self.off > self.on:
            raise ValueError(_upside_down(self.off, self.on))
        return self


class SoundSettings(Section):
    """A sound: a named group of labels, or loudness. What is not set is taken from `detection`."""

    labels: Annotated[list[str], Field(min_length=1)] = Field(default_factory=list)
    """names of the model's labels; the sound's score is the highest of theirs"""
    above_background_db: Annotated[float, Field(ge=3, le=100)] | None = None
    """instead of labels: anything so much louder than the room's own background, A-weighted"""
    on: Score | None = None
    off: Score | None = None
    confirm: Annotated[int, Field(ge=1, le=60)] | None = None
    confirm_of: Annotated[int, Field(ge=1, le=60)] | None = None
    min_duration_s: Seconds | None = None
    merge_gap_s: Seconds | None = None
    cooldown_s: Annotated[float, Field(ge=0, le=86400)] | None = None
    priority: Priority = "normal"
    """of its events; what happens at once is told in this order"""
    unless: list[Id] = Field(default_factory=list)
    """other sounds: while one of them scores higher, this one does not count"""
    verify: Literal["none", "mark", "require"] = "none"
    """whether the cadence of an alarm must be in the signal: for each event say so, or make it a condition"""
    cadence: CadenceSetting = "any"
    """t3: smoke, ISO 8201; t4: carbon monoxide"""

    @model_validator(mode="after")
    def _one_kind(self) -> SoundSettings:
        if bool(self.labels) == (self.above_background_db is not None):
            raise ValueError("a sound has exactly one of: labels, above_background_db")
        if self.above_background_db is not None and (self.on is not None or self.off is not None):
            raise ValueError("loudness has no on and off: above_background_db is its threshold")
        return self


class SoundRule(DetectionSettings):
    """How a sound is detected: its own settings, over those of `detection`. Nothing is left open."""

    labels: tuple[str, ...]
    """none where the sound is loudness"""
    above_background_db: float | None = None
    off: Score
    confirm_of: int
    priority: Priority = "normal"
    unless: tuple[str, ...] = ()
    verify: Literal["none", "mark", "require"] = "none"
    cadence: CadenceSetting = "any"


def _upside_down(off: float, on: float) -> str:
    return f"off ({off:g}) is above on ({on:g}): an event would end as soon as it began"


def _hysteresis(sound: SoundSettings, info: ValidationInfo) -> SoundSettings:
    """Thresholds must agree also where one of them is the sound's and the other that of `detection`."""
    detection = info.data.get("detection")
    on = sound.on if sound.on is not None else detection and detection.on
    off = sound.off if sound.off is not None else detection and detection.off
    if on is not None and off is not None and off > on:
        raise ValueError(_upside_down(off, on))
    return sound


class TlsSettings(Section):
    ca_file: File | None = None
    """certificates to trust; those of the system where not set"""
    cert_file: File | None = None
    key_file: File | None = None


class MqttSettings(Section):
    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """1883, or 8883 with TLS, where not set"""
    embedded: bool = False
    """start a broker in this process, on loopback, on the first free port from `port` on"""
    username: str | None = None
    password_file: File | None = None
    """the first line is the password; else $STREAMER_MQTT_PASSWORD; before both systemd's credential
    `mqtt-password`"""
    tls: TlsSettings | None = None
    client_id: str | None = None
    """`streamer-<node>` where not set"""
    prefix: Annotated[str, Field(pattern=r"^[^#+\x00/$][^#+\x00]{0,127}$")] = "streamer"
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    commands: bool = True
    """obey what comes on …/set: listen or not, thresholds, profile"""


class HomeAssistantSettings(Section):
    """Written as `home_assistant: {}` a device for each source appears there by itself."""

    discovery_prefix: Annotated[str, Field(pattern=r"^[^#+\x00/$][^#+\x00]{0,127}$")] = "homeassistant"
    """as it is set there; its birth message comes on <discovery_prefix>/status"""
    form: Literal["device", "entity"] = "device"
    """one message a device, or one an entity: for versions before 2024.11"""


class HealthSettings(Section):
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """/metrics for Prometheus and /healthz, on loopback; neither where not set"""


class Config(Section):
    node: Id = "streamer"
    """the name of this daemon among others"""
    state_dir: File | None = None
    """where events wait for the broker; $STATE_DIRECTORY or ~/.local/state/streamer where not set"""
    sources: Annotated[dict[Id, SourceSettings], Field(min_length=1)]
    model: ModelSettings = ModelSettings()
    windows: WindowSettings = WindowSettings()
    detection: DetectionSettings = DetectionSettings()
    sounds: Annotated[dict[Id, Annotated[SoundSettings, AfterValidator(_hysteresis)]], Field(min_length=1)]
    mqtt: MqttSettings = MqttSettings()
    home_assistant: HomeAssistantSettings | None = None
    health: HealthSettings = HealthSettings()

    @property
    def hop_s(self) -> float:
        """The step between windows; 1 s as long as nothing was measured for `auto`."""
        return 1.0 if self.windows.hop_s == "auto" else self.windows.hop_s

    @model_validator(mode="after")
    def _guards_exist(self) -> Config:
        for name, sound in self.sounds.items():
            for other in sound.unless:
                if other not in self.sounds or other == name:
                    raise ValueError(f"sounds.{name}.unless: {other!r} is not another sound of this file")
        return self

    def sound(self, name: str) -> SoundRule:
        """What holds for a sound of `sounds`."""
        settings = self.detection.model_dump() | self.sounds[name].model_dump(exclude_none=True)
        if settings.get("above_background_db") is not None:
            settings |= {"on": LOUD, "off": LOUD / 2}
        if settings["off"] is None:
            settings["off"] = 0.5 * settings["on"]
        if settings["confirm_of"] is None or settings["confirm_of"] < settings["confirm"]:
            settings["confirm_of"] = settings["confirm"]
        return SoundRule(
            **settings | {"labels": tuple(settings["labels"]), "unless": tuple(settings["unless"])}
        )


def load_config(path: str | Path) -> Config:
    """Read and check a file. Raises one ConfigError, with a line for each thing that is wrong."""
    return load_yaml(path, lambda _: Config, example="configs/quickstart.yaml")
