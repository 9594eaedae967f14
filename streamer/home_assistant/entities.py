"""The entities of a source in Home Assistant, as MQTT discovery describes them.

A device for the node and one for each source; one function an entity, all pure. https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from streamer import __version__
from streamer.config.control import HIGHEST, LOWEST, PROFILES
from streamer.home_assistant.origin import ORIGIN
from streamer.language import Names
from streamer.mqtt.topics import Topics

EXPIRE_S = 120
"""seconds after which a level is unavailable; it is published every 30 s"""
_ATTRIBUTES = "{{ dict(value_json, labels=value_json.get('labels') | default({}, true) | list) | to_json }}"
"""they name the labels without their scores, which would be other ones in each row of the database"""

_DEVICE_CLASSES = {
    "smoke_alarm": "smoke",
    "smoke_detector": "smoke",
    "fire_alarm": "smoke",
    "co_alarm": "carbon_monoxide",
    "carbon_monoxide_alarm": "carbon_monoxide",
    "gas_alarm": "gas",
    "glass_break": "safety",
    "scream": "safety",
}
"""a sound that is none of these is of the class `sound`"""
_ICONS = {
    "alarm_clock": "mdi:alarm",
    "baby_cry": "mdi:baby-face-outline",
    "cat": "mdi:cat",
    "dog_bark": "mdi:dog",
    "door_knock": "mdi:door",
    "doorbell": "mdi:doorbell",
    "footsteps": "mdi:shoe-print",
    "music": "mdi:music",
    "siren": "mdi:alarm-light",
    "speech": "mdi:account-voice",
    "telephone": "mdi:phone-ring",
    "thunder": "mdi:weather-lightning",
    "vacuum_cleaner": "mdi:robot-vacuum",
    "water_running": "mdi:water-pump",
}


@dataclass(frozen=True, slots=True)
class Entity:
    """One component of a device. Keys and unique ids never change; names may."""

    platform: str
    key: str
    config: dict[str, object]


def _entity(
    device_id: str, slug: str, platform: str, key: str, name: str, config: dict[str, object]
) -> Entity:
    """An entity with what all have. Ids are made of ids, so that they are the same in every language.

    The name is its own: Home Assistant puts the device's before it.
    """
    slug = slug.replace("-", "_")
    common = {
        "name": name,
        "uniq_id": f"{device_id}_{key}",
        # Home Assistant before 2025.10 knows obj_id alone; newer ones complain of it where it stands alone.
        "def_ent_id": f"{platform}.{slug}",
        "obj_id": slug,
        "qos": 1,
    }
    return Entity(platform, key, common | config)


@dataclass(frozen=True, slots=True)
class NodeDevice:
    """The daemon itself: what its sources share, and are reached through."""

    topics: Topics
    names: Names = field(default_factory=Names)
    page_url: str | None = None

    @property
    def device_id(self) -> str:
        # No source's: those have an underscore here.
        return f"streamer-{self.topics.node}"

    def entity(self, platform: str, key: str, **config: object) -> Entity:
        slug = f"streamer_{self.topics.node}_{key}"
        return _entity(self.device_id, slug, platform, key, self.names.text(key), config)


@dataclass(frozen=True, slots=True)
class DiscoveryDevice:
    """One source of a node: a device of Home Assistant."""

    topics: Topics
    source: str
    sounds: tuple[str, ...]
    thresholds: tuple[str, ...]
    """the sounds whose threshold can be set"""
    commands: bool
    shown: frozenset[str] = frozenset()
    """the sounds whose entity is enabled at first"""
    expected: tuple[str, ...] = ()
    """the sounds that should be heard again and again"""
    names: Names = field(default_factory=Names)
    area: str | None = None
    is_calibrated: bool = False
    """its levels are dB(A)"""
    page_url: str | None = None

    @property
    def device_id(self) -> str:
        return f"streamer_{self.topics.node}_{self.source}"

    @property
    def name(self) -> str:
        return self.names.source(self.source)

    def entity(
        self, platform: str, key: str, name: str | None = None, *, slug: str = "", **config: object
    ) -> Entity:
        """`slug` ends its entity id; where it is not given, that is the key."""
        slug = f"{self.source}_{slug or key}"
        return _entity(self.device_id, slug, platform, key, name or self.names.text(key), config)

    @property
    def of_node(self) -> list[dict[str, str]]:
        """Availability with the daemon alone: of settings, of events, and of what explains a lost source."""
        return [{"t": self.topics.status}]


Device: TypeAlias = NodeDevice | DiscoveryDevice


def detection(device: DiscoveryDevice) -> Entity:
    """The moment that a sound begins. Available while the daemon is: it may come when its source is lost."""
    return device.entity(
        "event",
        "detection",
        ic="mdi:ear-hearing",
        stat_t=device.topics.event(device.source, "start"),
        val_tpl=_ATTRIBUTES.replace("value_json,", "value_json, event_type=value_json.sound,", 1),
        evt_typ=list(device.sounds),
        avty=device.of_node,
    )


def ongoing(device: DiscoveryDevice, sound: str) -> Entity:
    """Whether a sound can be heard now."""
    icon: dict[str, Any] = {"ic": _ICONS[sound]} if sound in _ICONS else {}
    return device.entity(
        "binary_sensor",
        f"sound_{sound}",
        device.names.sound(sound),
        slug=sound,
        dev_cla=_DEVICE_CLASSES.get(sound, "sound"),
        stat_t=device.topics.sound_state(device.source, sound),
        json_attr_t=device.topics.sound_attributes(device.source, sound),
        json_attr_tpl=_ATTRIBUTES,
        **icon,
        **_disabled(sound not in device.shown),
    )


def overdue(device: DiscoveryDevice, sound: str) -> Entity:
    """Whether a sound should have been heard again."""
    return device.entity(
        "binary_sensor",
        f"overdue_{sound}",
        device.names.text("overdue", sound),
        slug=f"{sound}_overdue",
        dev_cla="problem",
        stat_t=device.topics.overdue(device.source, sound),
        json_attr_t=device.topics.overdue_attributes(device.source, sound),
        avty=device.of_node,
        **_disabled(True),
    )


def any_sound(device: DiscoveryDevice) -> Entity:
    """Whether anything can be heard now; its attributes count the day."""
    return device.entity(
        "binary_sensor",
        "any_sound",
        dev_cla="sound",
        stat_t=device.topics.any_sound(device.source),
        json_attr_t=device.topics.any_sound_attributes(device.source),
    )


def began(device: DiscoveryDevice, sound: str) -> Entity:
    """A device trigger, for automations that are made by clicking."""
    config: dict[str, object] = {
        "atype": "trigger",
        "t": device.topics.event(device.source, "start"),
        "val_tpl": "{{ value_json.sound }}",
        "pl": sound,
        "type": "began",
        "stype": sound,
        "qos": 1,
    }
    return Entity("device_automation", f"trigger_{sound}", config)


def last_sound(device: DiscoveryDevice) -> Entity:
    """In words; the id of the sound is among the attributes."""
    return device.entity(
        "sensor",
        "last",
        slug="last_sound",
        ic="mdi:waveform",
        stat_t=device.topics.last(device.source),
        val_tpl="{{ value_json.sound_name }}",
        json_attr_t=device.topics.last(device.source),
        json_attr_tpl=_ATTRIBUTES,
    )


def last_time(device: DiscoveryDevice) -> Entity:
    return device.entity(
        "sensor",
        "last_time",
        slug="last_sound_time",
        dev_cla="timestamp",
        stat_t=device.topics.last(device.source),
        val_tpl="{{ value_json.onset }}",
        **_disabled(True),
    )


def level(device: DiscoveryDevice) -> Entity:
    """In dB(A) where the source is calibrated; else in dBFS, which no device class knows."""
    measured: dict[str, Any] = {"unit_of_meas": "dBFS", "stat_t": device.topics.level(device.source)}
    if device.is_calibrated:
        measured = {
            "unit_of_meas": "dBA",
            "dev_cla": "sound_pressure",
            "stat_t": device.topics.level_dba(device.source),
        }
    return device.entity(
        "sensor",
        "level",
        ic="mdi:volume-high",
        stat_cla="measurement",
        sug_dsp_prc=0,
        exp_aft=EXPIRE_S,
        **measured,
    )


def labels(device: DiscoveryDevice) -> Entity:
    """What the model hears now, in words."""
    return device.entity(
        "sensor",
        "labels",
        slug="heard_now",
        ic="mdi:tag-text-outline",
        ent_cat="diagnostic",
        stat_t=device.topics.labels(device.source),
        **_disabled(True),
    )


def problem(device: DiscoveryDevice) -> Entity:
    """Whether its audio arrives as it should."""
    return device.entity(
        "binary_sensor",
        "problem",
        slug="audio_input",
        dev_cla="problem",
        ent_cat="diagnostic",
        stat_t=device.topics.problem(device.source),
        json_attr_t=device.topics.problem_attributes(device.source),
        avty=device.of_node,
    )


def listen(device: DiscoveryDevice) -> Entity:
    return device.entity(
        "switch",
        "listen",
        ic="mdi:microphone",
        ent_cat="config",
        stat_t=device.topics.listen(device.source, "state"),
        cmd_t=device.topics.listen(device.source, "set"),
        avty=device.of_node,
    )


def mute(device: DiscoveryDevice) -> Entity:
    """Its events do not notify for an hour, but for critical ones."""
    return device.entity(
        "switch",
        "mute",
        ic="mdi:bell-sleep",
        ent_cat="config",
        stat_t=device.topics.mute(device.source, "state"),
        cmd_t=device.topics.mute(device.source, "set"),
        avty=device.of_node,
    )


def listen_for(device: DiscoveryDevice, sound: str) -> Entity:
    return device.entity(
        "switch",
        f"listen_for_{sound}",
        device.names.text("listen_for", sound),
        ic="mdi:ear-hearing",
        ent_cat="config",
        stat_t=device.topics.listen_for(device.source, sound, "state"),
        cmd_t=device.topics.listen_for(device.source, sound, "set"),
        avty=device.of_node,
        **_disabled(True),
    )


def threshold(device: DiscoveryDevice, sound: str) -> Entity:
    return device.entity(
        "number",
        f"threshold_{sound}",
        device.names.text("threshold", sound),
        slug=f"{sound}_threshold",
        ic="mdi:tune-vertical",
        ent_cat="config",
        min=LOWEST,
        max=HIGHEST,
        step=0.01,
        mode="slider",
        stat_t=device.topics.threshold(device.source, sound, "state"),
        cmd_t=device.topics.threshold(device.source, sound, "set"),
        avty=device.of_node,
        **_disabled(True),
    )


def profile(device: DiscoveryDevice) -> Entity:
    """Its options are the same in every language: automations choose them."""
    return device.entity(
        "select",
        "profile",
        slug="sensitivity",
        ic="mdi:knob",
        ent_cat="config",
        ops=list(PROFILES),
        stat_t=device.topics.profile(device.source, "state"),
        cmd_t=device.topics.profile(device.source, "set"),
        avty=device.of_node,
    )


def latency(device: NodeDevice) -> Entity:
    return device.entity(
        "sensor",
        "latency",
        dev_cla="duration",
        stat_cla="measurement",
        unit_of_meas="ms",
        sug_dsp_prc=0,
        ent_cat="diagnostic",
        stat_t=device.topics.stats,
        val_tpl="{{ value_json.latency_ms.p50 }}",
        **_disabled(True),
    )


def waiting(device: NodeDevice) -> Entity:
    """Events that waited for the broker when it was said: more than a few mean that it refuses or is slow."""
    return device.entity(
        "sensor",
        "waiting",
        ic="mdi:tray-full",
        stat_cla="measurement",
        ent_cat="diagnostic",
        stat_t=device.topics.stats,
        val_tpl="{{ value_json.outbox.depth }}",
    )


def entities(device: Device) -> list[Entity]:
    """All of a device; without those that command, where nobody may."""
    if isinstance(device, NodeDevice):
        return [latency(device), waiting(device)]
    always = [
        detection(device),
        any_sound(device),
        *(make(device) for make in (last_sound, level, problem)),
        *(ongoing(device, sound) for sound in device.sounds),
        *(began(device, sound) for sound in device.sounds),
        *(overdue(device, sound) for sound in device.expected),
        *(make(device) for make in (last_time, labels)),
    ]
    if not device.commands:
        return always
    return [
        *always,
        *(make(device) for make in (listen, profile, mute)),
        *(listen_for(device, sound) for sound in device.sounds),
        *(threshold(device, sound) for sound in device.thresholds),
    ]


def device_config(device: Device, components: Iterable[Entity]) -> dict[str, object]:
    """The payload of the device form: one retained message has it all. Home Assistant 2024.11 and later."""
    return {
        **_shared(device),
        **_availability(device),
        "cmps": {entity.key: {"p": entity.platform, **entity.config} for entity in components},
    }


def entity_config(device: Device, entity: Entity) -> dict[str, object]:
    """The payload of one entity: for any version since 2023.8."""
    config = {**_shared(device), **entity.config}
    if entity.platform != "device_automation":
        config = {**_availability(device), **config}
    if "en" in config:  # Domoticz, which reads this form too, knows the long name alone
        config["enabled_by_default"] = config.pop("en")
    return config


def _disabled(is_disabled: bool) -> dict[str, Any]:
    """It exists, but Home Assistant does not show it until a person enables it."""
    return {"en": False} if is_disabled else {}


def _shared(device: Device) -> dict[str, object]:
    about: dict[str, object] = {"ids": [device.device_id], "mf": "streamer", "sw": __version__}
    if isinstance(device, NodeDevice):
        about |= {"name": f"streamer {device.topics.node}", "mdl": "Sound event detector"}
    else:
        about |= {
            "name": device.name,
            "mdl": "Microphone",
            "via_device": NodeDevice(device.topics).device_id,
        }
        if device.area is not None:
            about["sa"] = device.area
    if device.page_url is not None:
        about["cu"] = device.page_url
    return {"dev": about, "o": ORIGIN}


def _availability(device: Device) -> dict[str, object]:
    """Unavailable without the daemon, and what is heard without its source."""
    topics = [{"t": device.topics.status}]
    if isinstance(device, DiscoveryDevice):
        topics.append({"t": device.topics.source_status(device.source)})
    return {"avty": topics, "avty_mode": "all"}
