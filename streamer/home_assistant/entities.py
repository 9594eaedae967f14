"""What Home Assistant is told, so that the entities of each source appear by themselves.

One function an entity, all pure. https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamer import __version__
from streamer.config.control import HIGHEST, LOWEST, PROFILES
from streamer.mqtt.topics import Topics

EXPIRE_S = 60
"""a level that is older says nothing of now; it is told every 5 s"""

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
class Ear:
    """One source of a node: a device of Home Assistant."""

    topics: Topics
    source: str
    sounds: tuple[str, ...]
    thresholds: tuple[str, ...]
    """the sounds whose threshold can be set"""
    commands: bool

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
        """Available while the daemon runs, though the source may be lost: what explains it, and settings."""
        return [{"t": self.topics.status}]


def title(name: str) -> str:
    """`smoke_alarm` as `Smoke alarm`."""
    return name.replace("_", " ").replace("-", " ").capitalize()


def detection(ear: Ear) -> Entity:
    """The moment that a sound begins."""
    return ear.entity(
        "event",
        "detection",
        "Detection",
        ic="mdi:ear-hearing",
        stat_t=ear.topics.event(ear.source, "start"),
        val_tpl="{{ dict(value_json, event_type=value_json.sound) | to_json }}",
        evt_typ=list(ear.sounds),
    )


def ongoing(ear: Ear, sound: str) -> Entity:
    """Whether a sound can be heard now."""
    icon = {"ic": _ICONS[sound]} if sound in _ICONS else {}
    return ear.entity(
        "binary_sensor",
        f"sound_{sound}",
        title(sound),
        dev_cla=_DEVICE_CLASSES.get(sound, "sound"),
        stat_t=ear.topics.sound_state(ear.source, sound),
        json_attr_t=ear.topics.sound_attributes(ear.source, sound),
        **icon,
    )


def began(ear: Ear, sound: str) -> Entity:
    """A device trigger, for automations that are made by clicking."""
    config: dict[str, object] = {
        "atype": "trigger",
        "t": ear.topics.event(ear.source, "start"),
        "val_tpl": "{{ value_json.sound }}",
        "pl": sound,
        "type": "began",
        "stype": sound,
        "qos": 1,
    }
    return Entity("device_automation", f"trigger_{sound}", config)


def last_sound(ear: Ear) -> Entity:
    return ear.entity(
        "sensor",
        "last",
        "Last sound",
        ic="mdi:waveform",
        stat_t=ear.topics.last(ear.source),
        val_tpl="{{ value_json.sound }}",
        json_attr_t=ear.topics.last(ear.source),
    )


def last_time(ear: Ear) -> Entity:
    return ear.entity(
        "sensor",
        "last_time",
        "Last sound time",
        dev_cla="timestamp",
        stat_t=ear.topics.last(ear.source),
        val_tpl="{{ value_json.onset }}",
    )


def level(ear: Ear) -> Entity:
    """Of no device class: `sound_pressure` knows dB and dBA alone."""
    return ear.entity(
        "sensor",
        "level",
        "Level",
        ic="mdi:volume-high",
        stat_cla="measurement",
        unit_of_meas="dBFS",
        sug_dsp_prc=0,
        exp_aft=EXPIRE_S,
        stat_t=ear.topics.level(ear.source),
    )


def problem(ear: Ear) -> Entity:
    """Why there may be nothing to hear."""
    return ear.entity(
        "binary_sensor",
        "problem",
        "Audio input",
        dev_cla="problem",
        ent_cat="diagnostic",
        stat_t=ear.topics.problem(ear.source),
        avty=ear.of_node,
    )


def latency(ear: Ear) -> Entity:
    return ear.entity(
        "sensor",
        "latency",
        "Detection latency",
        dev_cla="duration",
        stat_cla="measurement",
        unit_of_meas="ms",
        sug_dsp_prc=0,
        ent_cat="diagnostic",
        stat_t=ear.topics.stats,
        val_tpl="{{ value_json.latency_ms.p50 }}",
        avty=ear.of_node,
    )


def waiting(ear: Ear) -> Entity:
    """Events that waited for the broker when it was told: more than a few mean that it refuses or is slow."""
    return ear.entity(
        "sensor",
        "waiting",
        "Events waiting",
        ic="mdi:tray-full",
        stat_cla="measurement",
        ent_cat="diagnostic",
        en=False,
        stat_t=ear.topics.stats,
        val_tpl="{{ value_json.outbox.depth }}",
        avty=ear.of_node,
    )


def listen(ear: Ear) -> Entity:
    return ear.entity(
        "switch",
        "listen",
        "Listen",
        ic="mdi:microphone",
        ent_cat="config",
        stat_t=ear.topics.listen(ear.source, "state"),
        cmd_t=ear.topics.listen(ear.source, "set"),
        avty=ear.of_node,
    )


def threshold(ear: Ear, sound: str) -> Entity:
    return ear.entity(
        "number",
        f"threshold_{sound}",
        f"{title(sound)} threshold",
        ic="mdi:tune-vertical",
        ent_cat="config",
        min=LOWEST,
        max=HIGHEST,
        step=0.01,
        mode="slider",
        stat_t=ear.topics.threshold(ear.source, sound, "state"),
        cmd_t=ear.topics.threshold(ear.source, sound, "set"),
        avty=ear.of_node,
    )


def profile(ear: Ear) -> Entity:
    return ear.entity(
        "select",
        "profile",
        "Sensitivity",
        ic="mdi:ear-hearing",
        ent_cat="config",
        ops=list(PROFILES),
        stat_t=ear.topics.profile(ear.source, "state"),
        cmd_t=ear.topics.profile(ear.source, "set"),
        avty=ear.of_node,
    )


def entities(ear: Ear) -> list[Entity]:
    """All of a source; without those that command, where nobody may."""
    always = [
        detection(ear),
        *(ongoing(ear, sound) for sound in ear.sounds),
        *(began(ear, sound) for sound in ear.sounds),
        *(make(ear) for make in (last_sound, last_time, level, problem, latency, waiting)),
    ]
    if not ear.commands:
        return always
    return [*always, listen(ear), profile(ear), *(threshold(ear, sound) for sound in ear.thresholds)]


def device_config(ear: Ear, components: Iterable[Entity]) -> dict[str, object]:
    """The payload of the device form: one retained message has it all. Home Assistant 2024.11 and later."""
    return {
        **_shared(ear),
        **_availability(ear),
        "cmps": {entity.key: {"p": entity.platform, **entity.config} for entity in components},
    }


def entity_config(ear: Ear, entity: Entity) -> dict[str, object]:
    """The payload of one entity: for any version since 2023.8."""
    config = {**_shared(ear), **entity.config}
    if entity.platform != "device_automation":
        config = {**_availability(ear), **config}
        # Older versions know object_id alone; newer ones complain of it where it stands alone.
        config["obj_id"] = str(entity.config["def_ent_id"]).split(".", 1)[1]
    return config


def _shared(ear: Ear) -> dict[str, object]:
    return {
        "dev": {
            "ids": [ear.device_id],
            "name": ear.name,
            "mf": "streamer",
            "mdl": "Sound event detector",
            "sw": __version__,
        },
        "o": {"name": "streamer", "sw": __version__},
    }


def _availability(ear: Ear) -> dict[str, object]:
    """Gone with the daemon or with its source."""
    return {
        "avty": [{"t": ear.topics.status}, {"t": ear.topics.source_status(ear.source)}],
        "avty_mode": "all",
    }
