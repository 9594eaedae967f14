"""The sections of a configuration file: what they may say, and with which defaults."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from streamer.config.sources import NodeSettings, SourceSettings
from streamer.config.yaml import NAME, DisplayName, File, Section, load_yaml
from streamer.core.addresses import is_loopback
from streamer.core.times import seconds
from streamer.language import FALLBACK, Language, Names
from streamer.types import Priority

Id = Annotated[str, Field(pattern=NAME)]
"""A name that becomes a part of MQTT topics, and so must be safe there."""
Score = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]


def _is_host(text: str) -> str:
    if re.search(r"[/@?#\s]", text) or re.fullmatch(r"[^:]*:\d*|\[.*", text):
        raise ValueError("a host name or address alone: the port is mqtt.port, TLS is mqtt.tls")
    return text


Host = Annotated[str, Field(min_length=1), AfterValidator(_is_host)]
TopicPrefix = Annotated[str, Field(pattern=r"^[^#+\x00-\x1f\x7f-\x9f/$][^#+\x00-\x1f\x7f-\x9f]{0,127}$")]


def _is_mqtt_text(text: str) -> str:
    if len(text) > 1024 or re.search(r"[\x00-\x1f\x7f-\x9f]", text):
        raise ValueError("should be one line of at most 1024 characters")
    return text


MqttText = Annotated[str, AfterValidator(_is_mqtt_text)]
"""what a broker takes: without control characters, and with room for it in a packet"""

CadenceSetting: TypeAlias = Literal["any", "t3", "t4"]
CLIP_SPARE_S = 12.0
"""of the ring beyond a clip: by then every window that saw some of it was scored"""
TAUGHT = "taught: "
"""how the labels of taught sounds begin, which no model has"""
EXPECT_LEAST_S, EXPECT_MOST_S = 3600.0, 366 * 86400.0
"""within which a sound may be expected again"""
LOUD = 0.5
"""the score of a level that is above the background by as much as the sound asks for"""


OneDevice = Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]


class ModelSettings(Section):
    """Which model scores the windows, and on what."""

    path: str = "ast-tiny"
    """`ast-tiny`, which ships, a directory in Hugging Face format, or the name of a pulled model."""
    engine: Literal["auto", "torch", "onnx", "openvino"] = "auto"
    """What computes the model: `onnx` (CPU) or, where installed, `torch` (CUDA, bfloat16) or `openvino` (CPU,
    bfloat16). `auto` takes torch where there is a CUDA device; else it measures what there is at the first
    start and takes the fastest."""
    device: (
        Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]
        | Annotated[tuple[OneDevice, ...], Field(strict=False, min_length=1, max_length=64)]
    ) = "auto"
    """`cpu`, `cuda` or `cuda:N`; `auto` takes CUDA where there is a device. A list has a process for each."""
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = "auto"
    """Arithmetic of the network; `auto` takes bfloat16 where engine and device have it; `int8` is for the
    engine onnx, and changes scores a little."""
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    """CPU threads of a forward pass; 0 measures at the start which number is fastest."""
    window_s: Annotated[float, Field(ge=0.2, le=60)] | None = None
    """Window length in seconds, if shorter than the model's own: faster, and less accurate."""
    position: Literal["cut", "interpolate"] = "cut"
    """How the positional embedding is fitted to a shorter window."""
    max_batch: Annotated[int, Field(ge=1, le=256)] = 16
    """Largest number of windows that are scored at once."""
    batch_wait_s: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Longest time in seconds that a window waits for windows of other sources."""

    @property
    def devices(self) -> tuple[str, ...]:
        """One or several."""
        return (self.device,) if isinstance(self.device, str) else self.device

    @property
    def first_device(self) -> str:
        """Where a single process is enough."""
        return self.devices[0]


class WindowSettings(Section):
    """How a source's audio is kept and cut."""

    hop_s: Literal["auto"] | Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """Step between windows in seconds; `auto` measures the shortest that keeps the model under half busy."""
    ring_s: Annotated[float, Field(ge=15, le=600)] = 60.0
    """Seconds of audio of each source that are kept in memory."""
    skip_quiet: bool = True
    """Whether windows that are as quiet as the room always is are mostly not scored."""


class DetectionSettings(Section):
    """The rules of every sound that does not set its own."""

    on: Score = 0.5
    """Score at which a sound begins."""
    off: Score | None = None
    """Score below which it ends; half of `on` where not set."""
    confirm: Annotated[int, Field(ge=1, le=60)] = 1
    """Number of hops that must agree before an event starts."""
    confirm_of: Annotated[int, Field(ge=1, le=60)] | None = None
    """Number of latest hops among which `confirm` are counted; `confirm`, so all in a row, where not set."""
    smoothing_s: Annotated[float, Field(ge=0, le=5)] = 0.44
    """Length in seconds of the median filter over scores."""
    min_duration_s: Seconds = 0.0
    """Shortest event in seconds; what is shorter is not emitted."""
    merge_gap_s: Seconds = 1.0
    """Longest pause in seconds within one event."""
    announce_s: Annotated[float, Field(ge=0, le=8)] = 1.0
    """Age in seconds at which a score may start an event; the older, the more windows have seen it."""
    update_s: Annotated[float, Field(ge=1, le=3600)] = 5.0
    """Shortest time in seconds between two updates of an event."""
    cooldown_s: Annotated[float, Field(ge=0, le=86400)] = 0.0
    """Seconds after a notifying event in which further events of the sound carry `notify: false`."""

    @model_validator(mode="after")
    def _hysteresis(self) -> DetectionSettings:
        if self.off is not None and self.off > self.on:
            raise ValueError(_upside_down(self.off, self.on))
        return self


def _optional(section: type[Section], keys: tuple[str, ...]) -> type[Section]:
    """A section with some keys of another, all optional: each is declared, bounded and described once."""
    fields: dict[str, Any] = {}
    for key in keys:
        field: FieldInfo = section.model_fields[key]
        annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        fields[key] = (annotation | None, Field(default=None, description=field.description))
    return create_model("OwnRules", __base__=Section, **fields)


if TYPE_CHECKING:
    OwnRules = Section
else:
    OwnRules = _optional(
        DetectionSettings,
        ("on", "off", "confirm", "confirm_of", "min_duration_s", "merge_gap_s", "cooldown_s"),
    )


class VetoSettings(Section):
    """What holds a sound back where it is like events marked wrong; `streamer teach veto` makes it."""

    model: str
    """The model that it was made with, as `model.path`: it is for no other."""
    bias: Annotated[float, Field(allow_inf_nan=False)]
    """Its log odds where no label scores."""
    weights: Annotated[dict[str, Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]
    """By label, what its evidence adds to that: above 0 for what is heard in the wrong events."""


def _recurrence(text: str) -> str:
    if not EXPECT_LEAST_S <= seconds(text) <= EXPECT_MOST_S:
        raise ValueError("an hour at least and a year at most")
    return text


class ExpectSettings(Section):
    """A sound that should come again and again: it is published when it has not."""

    every: Annotated[str, AfterValidator(_recurrence)]
    """Hours of listening within which it should be heard again, as `12h`, `1d` or `2w`; an hour at least."""
    at: Id | None = None
    """The source at which it should be heard; needed where there are several."""


class Expectation(NamedTuple):
    """A sound that should be heard again and again."""

    source: str
    sound: str
    every_s: float


class SoundKeys(Section):
    """What a sound has beside the rules that `detection` has, too."""

    name: DisplayName | None = None
    """What people read, in any script; where not set, the name in `language`."""
    shown: bool | None = None
    """Whether Home Assistant enables its entity at first; priority high or critical does, where not set."""
    labels: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ()
    """Labels of the model; the sound's score is the highest of theirs."""
    taught: Id | None = None
    """Instead of labels, the name of a sound that `streamer teach` has made."""
    above_background_db: Annotated[float, Field(ge=3, le=100)] | None = None
    """Instead of both, a loudness: decibels above the room's A-weighted background. It yields to every sound
    that has labels: it is told only where none of them overlaps it."""
    priority: Priority = "normal"
    """Priority that its messages carry; events of one moment are emitted in this order."""
    unless: Annotated[tuple[Id, ...], Field(strict=False)] = ()
    """Other sounds; while one of them scores higher, this one does not count."""
    verify: Literal["none", "mark", "require"] = "none"
    """Whether an alarm's cadence is searched in the signal: `mark` reports it, `require` demands it."""
    expect: ExpectSettings | None = None
    """Present for a sound that should come again and again."""
    veto: VetoSettings | None = None
    """Present for a sound that is not to count where it is like events that were marked wrong."""
    cadence: CadenceSetting = "any"
    """Which cadence: `t3` of smoke alarms, `t4` of carbon monoxide alarms, or `any` (ISO 8201)."""


class SoundSettings(SoundKeys, OwnRules):
    """A sound: labels, one that was taught, or a loudness. What is not set is as in `detection`."""

    @model_validator(mode="before")
    @classmethod
    def _label_of_taught(cls, values: Any) -> Any:
        """A taught sound is one more label of the model."""
        if isinstance(values, dict) and isinstance(taught := values.get("taught"), str):
            own = (taught_label(taught),)
            if tuple(values.get("labels") or own) != own:
                raise ValueError("a sound has exactly one of: labels, taught, above_background_db")
            return {**values, "labels": own}
        return values

    @model_validator(mode="after")
    def _one_kind(self) -> SoundSettings:
        if bool(self.labels) == (self.above_background_db is not None):
            raise ValueError("a sound has exactly one of: labels, taught, above_background_db")
        if self.above_background_db is not None and self.veto is not None:
            raise ValueError("loudness has no labels, and so no veto")
        if self.priority == "critical" and self.veto is not None:
            raise ValueError("nothing may hold a critical sound back: it has no veto")
        if self.above_background_db is not None and {"on", "off"} & self.rules().keys():
            raise ValueError("loudness has no on and off: above_background_db is its threshold")
        if "cadence" in self.model_fields_set and "verify" not in self.model_fields_set:
            raise ValueError("cadence has no effect without verify: set verify to mark or require")
        return self

    def rules(self) -> dict[str, Any]:
        """The rules of `detection` that it sets itself."""
        return self.model_dump(include=set(DetectionSettings.model_fields), exclude_none=True)


class SoundRule(DetectionSettings, SoundKeys):
    """How a sound is detected: its own rules over those of `detection`, with nothing left open."""

    off: Score
    confirm_of: int


def taught_label(name: str) -> str:
    """The label of a taught sound."""
    return f"{TAUGHT}{name}"


def _upside_down(off: float, on: float) -> str:
    return f"off ({off:g}) is above on ({on:g}): an event would end as soon as it began"


def _hysteresis(sound: SoundSettings, info: ValidationInfo) -> SoundSettings:
    """Thresholds must agree also where one of them is the sound's and the other that of `detection`."""
    detection: DetectionSettings | None = info.data.get("detection")
    if detection is not None:
        rules = detection.model_dump(include={"on", "off"}) | sound.rules()
        if rules["off"] is not None and rules["off"] > rules["on"]:
            raise ValueError(_upside_down(rules["off"], rules["on"]))
    return sound


class TlsSettings(Section):
    """An encrypted connection to the broker."""

    ca_file: File | None = None
    """Certificates to trust, PEM; those of the system where not set."""
    cert_file: File | None = None
    """Client certificate, PEM, where the broker asks for one."""
    key_file: File | None = None
    """Private key of the client certificate, PEM."""


class MqttSettings(Section):
    """The broker that events and states are published to."""

    enabled: bool = True
    """Whether anything is published over MQTT."""
    host: Host = "127.0.0.1"
    """Name or address of the broker."""
    port: Port | None = None
    """Port of the broker; 1883, or 8883 with TLS, where not set."""
    embedded: bool = False
    """Start a broker in this process, on loopback, on the first free port from `port` on, to try things."""
    username: MqttText | None = None
    """User name at the broker."""
    password_file: File | None = None
    """File whose first line is the password. systemd's credential `mqtt-password` goes before it; else it is
    $STREAMER_MQTT_PASSWORD."""
    tls: TlsSettings | None = None
    """Present, even as `{}`, for a connection with TLS."""
    client_id: Annotated[MqttText, Field(min_length=1)] | None = None
    """Client identifier; `streamer-<node>` where not set."""
    prefix: TopicPrefix = "streamer"
    """First level of every topic."""
    keepalive_s: Annotated[int, Field(ge=5, le=3600)] = 30
    """Keep-alive interval in seconds."""
    commands: Literal["all"] | bool = True
    """Whether commands on …/set topics are obeyed: listening, thresholds, profile. Only with `all` may they
    switch a sound of priority critical off, raise its threshold, or close a source that listens for one."""


PageUrl = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]


class HomeAssistantSettings(Section):
    """Present, even as `{}`: each source appears in Home Assistant as a device."""

    discovery_prefix: TopicPrefix = "homeassistant"
    """Discovery prefix as set in Home Assistant; its birth message comes on <discovery_prefix>/status."""
    page_url: PageUrl | None = None
    """Address at which a browser in the home reaches this daemon's page: the device then has a link to it.
    `web.public_url` where not set."""
    form: Literal["device", "entity"] = "device"
    """One discovery message a device, or one an entity: for Home Assistant before 2024.11 and others."""


class HealthSettings(Section):
    """Metrics over HTTP."""

    port: Port | None = None
    """Port on loopback for /metrics (Prometheus) and /healthz; neither where not set."""


class StoreSettings(Section):
    """The history of events, in the state directory."""

    events_days: Annotated[float, Field(gt=0, le=36500)] = 400.0
    """How long events are kept; `streamer events` lists them."""
    events_max: Annotated[int, Field(ge=1000, le=100_000_000)] = 1_000_000
    """How many events are kept at most; the oldest go first."""
    scores: bool = True
    """Whether the model's scores are kept, for `streamer replay` to try other rules on; no audio is."""
    scores_days: Annotated[float, Field(gt=0, le=3650)] = 30.0
    """How long scores are kept."""
    scores_max_mb: Annotated[int, Field(ge=16, le=1_000_000)] = 1024
    """MiB of scores that are kept of a source at most; the oldest go first."""
    min_free_mb: Annotated[int, Field(ge=0, le=10_000_000)] = 512
    """MiB that stay free on the disk: where there is less, neither scores nor clips are written."""


class ClipSettings(Section):
    """Clips of events, in the state directory. While this is off, no sample is ever written to disk."""

    enabled: bool = False
    """Whether the sound of events is kept."""
    before_s: Annotated[float, Field(ge=0, le=30)] = 3.0
    """Seconds before the event's onset that are in its clip."""
    after_s: Annotated[float, Field(ge=0, le=30)] = 2.0
    """Seconds after its end."""
    longest_s: Annotated[float, Field(ge=1, le=300)] = 30.0
    """Seconds of a longer event that are in its clip."""
    speech: Literal["drop", "keep"] = "drop"
    """Whether a clip in which somebody may speak is dropped: any label of speech at 0.1 or more."""
    sounds: Annotated[tuple[Id, ...], Field(strict=False)] = ()
    """The sounds of which clips are kept; all where empty."""
    days: Annotated[float, Field(gt=0, le=36500)] = 14.0
    """How long clips are kept; those that are pinned stay."""
    max_mb: Annotated[int, Field(ge=1, le=100_000_000)] = 2000
    """MiB of all clips; pinned ones may be half of it."""
    per_sound: Annotated[int, Field(ge=1, le=1_000_000)] = 500
    """How many clips are kept of a sound; the oldest go first."""


class WebSettings(Section):
    """The page, and the API that it uses."""

    enabled: bool = False
    """Whether the page is served."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; beyond loopback it needs a password (`streamer web password`)."""
    port: Port = 8927
    """Port to listen on."""
    next_free_port: bool = False
    """Whether the next free port is taken where this one is in use."""
    hosts: list[str] = Field(default_factory=list)
    """Further host names that the page is reached by; requests for others are refused."""
    ingress_proxies: list[str] = Field(default_factory=list)
    """Addresses of Home Assistant's supervisor: whom it shows the page, owns it. For no other proxies."""
    password_file: File | None = None
    """File whose first line is the password, or its hash; $STATE_DIRECTORY/web-password where not set."""
    guest_password_file: File | None = None
    """The same for guests, who may look and change nothing."""
    public_url: PageUrl | None = None
    """Address at which phones reach the page. Where it is set, events over MQTT have a signed address each of
    their picture and of the clip that may be kept: for a day, without a password (docs/web.md)."""

    @model_validator(mode="after")
    def _is_served(self) -> WebSettings:
        if self.public_url is not None and not self.enabled:
            raise ValueError("public_url has no effect without enabled: true")
        return self

    @field_validator("ingress_proxies")
    @classmethod
    def _networks(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            try:
                ip_network(proxy, strict=False)
            except ValueError:
                raise ValueError(
                    f"{proxy!r} is no address or network, as in 172.30.32.2 or 10.0.0.0/8"
                ) from None
        return proxies


class AlertRule(Section):
    """How one sound alerts, whatever its priority."""

    send: bool = True
    """Whether it alerts."""
    cooldown_s: Annotated[float, Field(ge=0, le=86400)] | None = None
    """Seconds after an alert without another of this sound and source; those of `alerts` where not set."""
    in_quiet_hours: bool = False
    """Whether it alerts in quiet hours, too."""


QuietHours = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]


class AlertSettings(Section):
    """Present, even as `{}`: events are sent to phones and elsewhere, by Apprise (docs/alerts.md)."""

    urls_file: File | None = None
    """File with a line for each target: a name, a space, its address. systemd's credential `alert-urls` goes
    before it; where neither is set, it is $STREAMER_ALERT_URLS."""
    min_priority: Priority = "high"
    """Sounds of this priority or a higher one alert. Those that are critical do at any time, and always."""
    sounds: dict[Id, AlertRule] = Field(default_factory=dict)
    """Sounds that alert in a way of their own, by name."""
    quiet_hours: Annotated[tuple[QuietHours, ...], Field(strict=False)] = ()
    """Times of the day without alerts, as in `22:00-07:00`."""
    cooldown_s: Annotated[float, Field(ge=0, le=86400)] = 300.0
    """Seconds after an alert without another of the same sound and source."""
    at_most_an_hour: Annotated[int, Field(ge=1, le=1000)] = 20
    """Alerts an hour; one more says that there were more."""
    overdue: bool = True
    """Whether sounds with `expect` alert when they are overdue, whatever their priority."""
    expire_s: Annotated[float, Field(ge=10, le=86400)] = 600.0
    """Seconds after which an event is no alert any more: what was delayed for longer is left out."""
    attach: Literal["spectrogram", "clip", "nothing"] = "spectrogram"
    """What goes with the text. A spectrogram shows the sound, and cannot be played. With `clip` an alert
    comes when its sound has ended, with the clip that is kept of it, else with a spectrogram; critical ones
    come at once."""
    page_url: PageUrl | None = None
    """Address at which a phone reaches this daemon's page: an alert then has a link to its event.
    `web.public_url` where not set."""


class GatewaySettings(Section):
    """Where capture nodes connect; present where a source is a `node`."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen at; `0.0.0.0` is every IPv4 network of this machine, `::` every network."""
    port: Port = 8765
    """Port to listen at."""
    cert_file: File | None = None
    """Certificate of this machine, PEM, with its chain; needed unless `host` is loopback."""
    key_file: File | None = None
    """Private key of the certificate, PEM; in `cert_file` where not set."""
    tokens_file: File | None = None
    """A line for each node: its name and its token, of 16 characters or more. Read anew whenever a node
    connects. This or `clients_ca_file` is needed unless `host` is loopback."""
    clients_ca_file: File | None = None
    """Certificates, PEM, that sign those of the nodes; a node's certificate has its name as DNS name."""
    max_nodes: Annotated[int, Field(ge=1, le=10000)] = 500
    """Largest number of connections at a time."""

    @model_validator(mode="after")
    def _nothing_in_the_clear(self) -> GatewaySettings:
        if self.key_file is not None and self.cert_file is None:
            raise ValueError("key_file needs cert_file")
        if self.clients_ca_file is not None and self.cert_file is None:
            raise ValueError("clients_ca_file needs cert_file")
        if is_loopback(self.host):
            return self
        if self.cert_file is None:
            raise ValueError(
                f"{self.host} is not loopback: audio would cross the network in the clear; set cert_file"
            )
        if self.tokens_file is None and self.clients_ca_file is None:
            raise ValueError(
                f"{self.host} is not loopback: anyone could connect; set tokens_file or clients_ca_file"
            )
        return self


class ReplicaSettings(Section):
    """How many copies of the model the cluster runs; Ray starts and stops them with the load."""

    min: Annotated[int, Field(ge=1, le=1000)] = 1
    """Fewest."""
    max: Annotated[int, Field(ge=1, le=1000)] = 1
    """Most."""

    @model_validator(mode="after")
    def _in_order(self) -> ReplicaSettings:
        if self.max < self.min:
            raise ValueError(f"max is {self.max} and min is {self.min}: max must not be smaller")
        return self


class FleetTlsSettings(Section):
    """Certificates of this machine for Ray's own TLS, which each machine of the cluster must have, too."""

    ca_file: File
    """The authority that signed the certificates of all machines, PEM."""
    cert_file: File
    """This machine's certificate, PEM; it names the IP address by which the others reach it."""
    key_file: File
    """Its key, PEM; nobody but its owner may read it."""


class FleetSettings(Section):
    """Other machines that score the windows; where it is not set, this one does."""

    engine: Literal["ray"] = "ray"
    """What the machines are joined by: a Ray cluster that this machine is a node of."""
    address: Annotated[str, Field(pattern=r"^[^\s/@:]+:\d{1,5}$")]
    """`HOST:PORT` of the cluster's head, such as `10.0.0.5:6379`."""
    token_file: File
    """The token of the cluster, which its head and its nodes were started with; nobody but its owner may read
    the file. A cluster that takes calls without a token is refused."""
    tls: FleetTlsSettings | None = None
    """How calls between the machines are encrypted, with certificates on both sides; where it is not set they
    are in the clear."""
    replicas: ReplicaSettings = ReplicaSettings()
    batch: Annotated[int, Field(ge=1, le=256)] = 16
    """Largest number of windows in a call."""
    flights: Annotated[int, Field(ge=1, le=16)] = 3
    """Largest number of calls under way at a time."""
    payload: Literal["int16", "float32"] = "int16"
    """How samples travel. `int16` is half as many bytes, and scores come back as float16: they mostly move by
    less than 0.005. `float32` changes nothing."""
    deadline_s: Annotated[float, Field(ge=1, le=60)] = 5.0
    """Seconds in which a batch is given again where its replica has died; then its windows are skipped."""
    fallback: Literal["local", "none"] = "none"
    """Whether this machine loads the model and scores while the cluster is gone."""


class Config(Section):
    """One daemon."""

    node: Id = "streamer"
    """Name of this daemon among others; part of every topic."""
    state_dir: File | None = None
    """Directory for what survives a restart; $STATE_DIRECTORY or ~/.local/state/streamer where not set."""
    language: Language = FALLBACK
    """Language of the page and of the names of sounds and entities; what is not translated is English."""
    sources: Annotated[dict[Id, SourceSettings], Field(min_length=1)]
    """The places that are listened to, by name."""
    model: ModelSettings = ModelSettings()
    windows: WindowSettings = WindowSettings()
    detection: DetectionSettings = DetectionSettings()
    sounds: Annotated[dict[Id, Annotated[SoundSettings, AfterValidator(_hysteresis)]], Field(min_length=1)]
    """The sounds that are listened for, by name."""
    mqtt: MqttSettings = MqttSettings()
    home_assistant: HomeAssistantSettings | None = None
    health: HealthSettings = HealthSettings()
    web: WebSettings = WebSettings()
    store: StoreSettings = StoreSettings()
    clips: ClipSettings = ClipSettings()
    alerts: AlertSettings | None = None
    gateway: GatewaySettings | None = None
    fleet: FleetSettings | None = None
    _whole: str | None = PrivateAttr(None)

    @property
    def whole_node(self) -> str:
        """The node of all shards; `node` where one process has all sources."""
        return self._whole or self.node

    def shard(self, node: str, **changes: object) -> Config:
        """A part of this configuration, under another name."""
        part = self.model_copy(update={**changes, "node": node})
        part._whole = self.whole_node
        return part

    @property
    def labels(self) -> frozenset[str]:
        """Those that some sound is made of."""
        return frozenset(label for sound in self.sounds.values() for label in sound.labels)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the capture nodes that are sources."""
        return tuple(source.node for source in self.sources.values() if isinstance(source, NodeSettings))

    @property
    def hop_s(self) -> float:
        """The step between windows; 1 s as long as nothing was measured for `auto`."""
        return 1.0 if self.windows.hop_s == "auto" else self.windows.hop_s

    @model_validator(mode="after")
    def _nodes_can_connect(self) -> Config:
        for name, source in self.sources.items():
            if isinstance(source, NodeSettings):
                if self.gateway is None:
                    raise ValueError(
                        f"sources.{name}.node: nodes connect to the gateway: add a section `gateway`"
                    )
                if self.nodes.count(source.node) > 1:
                    raise ValueError(f"sources.{name}.node: {source.node} is the node of another source, too")
        return self

    @model_validator(mode="after")
    def _one_device_a_replica(self) -> Config:
        if self.fleet is not None and len(self.model.devices) > 1:
            raise ValueError(
                "model.device: with `fleet`, each replica has one device: name one, and set fleet.replicas"
            )
        return self

    @model_validator(mode="after")
    def _guards_exist(self) -> Config:
        for name, sound in self.sounds.items():
            for other in sound.unless:
                if other not in self.sounds or other == name:
                    raise ValueError(f"sounds.{name}.unless: {other!r} is not another sound of this file")
        return self

    @model_validator(mode="after")
    def _clips_fit(self) -> Config:
        clips = self.clips
        if self.alerts is not None and self.alerts.attach == "clip" and not clips.enabled:
            raise ValueError("alerts.attach: clip needs clips.enabled")
        if unknown := [name for name in clips.sounds if name not in self.sounds]:
            raise ValueError(f"clips.sounds: {unknown[0]!r} is no sound of this file")
        for name in self.alerts.sounds if self.alerts is not None else ():
            if name not in self.sounds:
                raise ValueError(f"alerts.sounds.{name}: there is no such sound in this file")
        needed = clips.before_s + clips.longest_s + clips.after_s + CLIP_SPARE_S
        if clips.enabled and needed > self.windows.ring_s:
            raise ValueError(
                f"clips: so long they need windows.ring_s: {needed:g}, and it is {self.windows.ring_s:g}"
            )
        return self

    @model_validator(mode="after")
    def _expected_somewhere(self) -> Config:
        for name, sound in self.sounds.items():
            if sound.expect is None:
                continue
            if sound.expect.at is None and len(self.sources) > 1:
                raise ValueError(
                    f"sounds.{name}.expect: there are several sources: say with `at` which should hear it"
                )
            if sound.expect.at is not None and sound.expect.at not in self.sources:
                raise ValueError(f"sounds.{name}.expect.at: {sound.expect.at!r} is no source of this file")
        return self

    @model_validator(mode="after")
    def _vetoes_fit(self) -> Config:
        for name, sound in self.sounds.items():
            if sound.veto is not None and sound.veto.model != self.model.path:
                raise ValueError(
                    f"sounds.{name}.veto: was made with another model ({sound.veto.model}) than"
                    f" {self.model.path}: make it again (streamer teach veto {name}), or remove it"
                )
        return self

    @property
    def expected(self) -> tuple[Expectation, ...]:
        """The sounds that should be heard again and again."""
        return tuple(
            Expectation(sound.expect.at or next(iter(self.sources)), name, seconds(sound.expect.every))
            for name, sound in self.sounds.items()
            if sound.expect is not None
        )

    @property
    def names(self) -> Names:
        """What people read of sources and sounds."""
        return Names(
            self.language,
            {key: source.name for key, source in self.sources.items() if source.name is not None},
            {key: sound.name for key, sound in self.sounds.items() if sound.name is not None},
        )

    def is_shown(self, name: str) -> bool:
        """Whether the entity of one of `sounds` is enabled at first."""
        sound = self.sounds[name]
        return sound.priority in ("high", "critical") if sound.shown is None else sound.shown

    def sound(self, name: str) -> SoundRule:
        """The rules of one of `sounds`."""
        settings = self.detection.model_dump() | self.sounds[name].model_dump(
            exclude_unset=True, exclude_none=True
        )
        if settings.get("above_background_db") is not None:
            settings |= {"on": LOUD, "off": LOUD / 2}
        if settings["off"] is None:
            settings["off"] = 0.5 * settings["on"]
        if settings["confirm_of"] is None or settings["confirm_of"] < settings["confirm"]:
            settings["confirm_of"] = settings["confirm"]
        return SoundRule(**settings)


def example(name: str) -> Path:
    """A configuration that ships: `home`, `quickstart` or `gpu`."""
    return Path(__file__).parent / "examples" / f"{name}.yaml"


def load_config(path: str | Path) -> Config:
    """Read and check a file. Raises one ConfigError, with a line for each thing that is wrong."""
    return load_yaml(path, lambda _: Config, example="configs/quickstart.yaml")
