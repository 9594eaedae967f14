"""The entities of a source in Home Assistant, as MQTT discovery describes them.

One function an entity, all pure. https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamer import __version__
from streamer.config.control import HIGHEST, LOWEST, PROFILES
from streamer.mqtt.topics import Topics

EXPIRE_S = 60
"""seconds after which a level is unavailable; it is published every 5 s"""

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


@dataclass(frozen=True, slots=True)
class DiscoveryDevice:
    """One source of a node: a device of Home Assistant."""

    topics: Topics
    source: str
    sounds: tuple[str, ...]
    thresholds: tuple[str, ...]
    """the sounds whose threshold can be set"""
    commands: bool
    calibrated: bool = False
    """its level is known in dB(A)"""

    @property
    def device_id(self) -> str:
        return f"streamer_{self.topics.node}_{self.source}"

    @property
    def name(self) -> str:
        return f"{title(self.source)} ear"

    def entity(self, platform: str, key: str, name: str, **config: object) -> Entity:
        """An entity with what all have. The name is its own: Home Assistant puts the device's before it."""
        slug = f"{self.name} {name}".lower().replace(" ", "_").replace("-", "_")
        common = {
            "name": name,
            "uniq_id": f"{self.device_id}_{key}",
            "def_ent_id": f"{platform}.{slug}",
            "qos": 1,
        }
        return Entity(platform, key, common | config)

    @property
    def of_node(self) -> list[dict[str, str]]:
        """Availability with the daemon alone: of settings, and of what explains a lost source."""
        return [{"t": self.topics.status}]


def title(name: str) -> str:
    """`smoke_alarm` as `Smoke alarm`."""
    return name.replace("_", " ").replace("-", " ").capitalize()


def detection(device: DiscoveryDevice) -> Entity:
    """The moment that a sound begins."""
    return device.entity(
        "event",
        "detection",
        "Detection",
        ic="mdi:device-hearing",
        stat_t=device.topics.event(device.source, "start"),
        val_tpl="{{ dict(value_json, event_type=value_json.sound) | to_json }}",
        evt_typ=list(device.sounds),
    )


def ongoing(device: DiscoveryDevice, sound: str) -> Entity:
    """Whether a sound goes on now."""
    icon = {"ic": _ICONS[sound]} if sound in _ICONS else {}
    return device.entity(
        "binary_sensor",
        f"sound_{sound}",
        title(sound),
        dev_cla=_DEVICE_CLASSES.get(sound, "sound"),
        stat_t=device.topics.sound_state(device.source, sound),
        json_attr_t=device.topics.sound_attributes(device.source, sound),
        **icon,
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
    return device.entity(
        "sensor",
        "last",
        "Last sound",
        ic="mdi:waveform",
        stat_t=device.topics.last(device.source),
        val_tpl="{{ value_json.sound }}",
        json_attr_t=device.topics.last(device.source),
    )


def last_time(device: DiscoveryDevice) -> Entity:
    return device.entity(
        "sensor",
        "last_time",
        "Last sound time",
        dev_cla="timestamp",
        stat_t=device.topics.last(device.source),
        val_tpl="{{ value_json.onset }}",
    )


def level(device: DiscoveryDevice) -> Entity:
    """dB(A) where the source is calibrated; else dBFS, which no device class knows."""
    if device.calibrated:
        return device.entity(
            "sensor",
            "level",
            "Level",
            dev_cla="sound_pressure",
            stat_cla="measurement",
            unit_of_meas="dBA",
            sug_dsp_prc=0,
            exp_aft=EXPIRE_S,
            stat_t=device.topics.level_dba(device.source),
        )
    return device.entity(
        "sensor",
        "level",
        "Level",
        ic="mdi:volume-high",
        stat_cla="measurement",
        unit_of_meas="dBFS",
        sug_dsp_prc=0,
        exp_aft=EXPIRE_S,
        stat_t=device.topics.level(device.source),
    )


def problem(device: DiscoveryDevice) -> Entity:
    """Whether its audio arrives as it should."""
    return device.entity(
        "binary_sensor",
        "problem",
        "Audio input",
        dev_cla="problem",
        ent_cat="diagnostic",
        stat_t=device.topics.problem(device.source),
        json_attr_t=device.topics.problem_attributes(device.source),
        avty=device.of_node,
    )


def latency(device: DiscoveryDevice) -> Entity:
    return device.entity(
        "sensor",
        "latency",
        "Detection latency",
        dev_cla="duration",
        stat_cla="measurement",
        unit_of_meas="ms",
        sug_dsp_prc=0,
        ent_cat="diagnostic",
        stat_t=device.topics.stats,
        val_tpl="{{ value_json.latency_ms.p50 }}",
        avty=device.of_node,
    )


def waiting(device: DiscoveryDevice) -> Entity:
    """Events that waited for the broker at the last statistics: many mean that it refuses or is slow."""
    return device.entity(
        "sensor",
        "waiting",
        "Events waiting",
        ic="mdi:tray-full",
        stat_cla="measurement",
        ent_cat="diagnostic",
        en=False,
        stat_t=device.topics.stats,
        val_tpl="{{ value_json.outbox.depth }}",
        avty=device.of_node,
    )


def listen(device: DiscoveryDevice) -> Entity:
    return device.entity(
        "switch",
        "listen",
        "Listen",
        ic="mdi:microphone",
        ent_cat="config",
        stat_t=device.topics.listen(device.source, "state"),
        cmd_t=device.topics.listen(device.source, "set"),
        avty=device.of_node,
    )


def threshold(device: DiscoveryDevice, sound: str) -> Entity:
    return device.entity(
        "number",
        f"threshold_{sound}",
        f"{title(sound)} threshold",
        ic="mdi:tune-vertical",
        ent_cat="config",
        min=LOWEST,
        max=HIGHEST,
        step=0.01,
        mode="slider",
        stat_t=device.topics.threshold(device.source, sound, "state"),
        cmd_t=device.topics.threshold(device.source, sound, "set"),
        avty=device.of_node,
    )


def profile(device: DiscoveryDevice) -> Entity:
    return device.entity(
        "select",
        "profile",
        "Sensitivity",
        ic="mdi:device-hearing",
        ent_cat="config",
        ops=list(PROFILES),
        stat_t=device.topics.profile(device.source, "state"),
        cmd_t=device.topics.profile(device.source, "set"),
        avty=device.of_node,
    )


def entities(device: DiscoveryDevice) -> list[Entity]:
    """All of a source; without those that command where commands are off."""
    always = [
        detection(device),
        *(ongoing(device, sound) for sound in device.sounds),
        *(began(device, sound) for sound in device.sounds),
        *(make(device) for make in (last_sound, last_time, level, problem, latency, waiting)),
    ]
    if not device.commands:
        return always
    return [
        *always,
        listen(device),
        profile(device),
        *(threshold(device, sound) for sound in device.thresholds),
    ]


def device_config(device: DiscoveryDevice, components: Iterable[Entity]) -> dict[str, object]:
    """The payload of the device form: one retained message has it all. Home Assistant 2024.11 and later."""
    return {
        **_shared(device),
        **_availability(device),
        "cmps": {entity.key: {"p": entity.platform, **entity.config} for entity in components},
    }


def entity_config(device: DiscoveryDevice, entity: Entity) -> dict[str, object]:
    """The payload of one entity: for any version since 2023.8."""
    config = {**_shared(device), **entity.config}
    if entity.platform != "device_automation":
        config = {**_availability(device), **config}
        # Older versions know object_id alone; newer ones complain of it where it stands alone.
        config["obj_id"] = str(entity.config["def_ent_id"]).split(".", 1)[1]
    return config


def _shared(device: DiscoveryDevice) -> dict[str, object]:
    return {
        "dev": {
            "ids": [device.device_id],
            "name": device.name,
            "mf": "streamer",
            "mdl": "Sound event detector",
            "sw": __version__,
        },
        "o": {"name": "streamer", "sw": __version__},
    }


def _availability(device: DiscoveryDevice) -> dict[str, object]:
    """Unavailable without the daemon or its source."""
    return {
        "avty": [{"t": device.topics.status}, {"t": device.topics.source_status(device.source)}],
        "avty_mode": "all",
    }
