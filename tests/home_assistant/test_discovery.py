"""What Home Assistant is told keeps the rules that it checks, and that keep its log quiet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from jinja2 import Environment

from streamer import __version__
from streamer.config.schema import HomeAssistantSettings, example, load_config
from streamer.home_assistant.discovery import announced, discovery, messages, payloads
from streamer.home_assistant.entities import (
    DiscoveryDevice,
    Entity,
    NodeDevice,
    device_config,
    entities,
    entity_config,
)
from streamer.home_assistant.origin import origin
from streamer.language import Language
from streamer.mqtt.messages import Message, event_message
from streamer.mqtt.topics import Topics
from tests.reports import event

SOUNDS = ("smoke_alarm", "co_alarm", "dog_bark", "left-over")
TOPICS = Topics("streamer", "pi")
EAR = DiscoveryDevice(TOPICS, "living_room", SOUNDS, SOUNDS, commands=True)
DEVICE = "homeassistant/device/streamer_pi_living_room/config"
NODE = "homeassistant/device/streamer-pi/config"


def by_key() -> dict[str, Entity]:
    return {entity.key: entity for entity in entities(EAR)}


def told(form: str = "device", ear: DiscoveryDevice = EAR, prefix: str = "homeassistant") -> dict[str, str]:
    return payloads([ear], prefix, form)  # type: ignore[arg-type]  # one of the two


def test_every_entity_of_a_source() -> None:
    """An event, a sensor and a threshold a sound, a trigger a sound, and what belongs to the source."""
    platforms: dict[str, int] = {}
    for entity in entities(EAR):
        platforms[entity.platform] = platforms.get(entity.platform, 0) + 1
    assert platforms == {
        "event": 1,
        "binary_sensor": len(SOUNDS) + 2,
        "device_automation": len(SOUNDS),
        "sensor": 4,
        "switch": len(SOUNDS) + 2,
        "select": 1,
        "number": len(SOUNDS),
    }


def test_ids_and_keys() -> None:
    """Unique, stable, and safe in a topic; an entity id is a slug of its own platform."""
    keys = [entity.key for entity in entities(EAR)]
    assert len(set(keys)) == len(keys)
    for entity in entities(EAR):
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", entity.key)
        if entity.platform == "device_automation":
            continue
        assert entity.config["uniq_id"] == f"streamer_pi_living_room_{entity.key}"
        assert re.fullmatch(rf"{entity.platform}\.[a-z0-9_]+", str(entity.config["def_ent_id"]))
        # Versions that know no default_entity_id would make ids of names, which are others in each language.
        assert entity.config["def_ent_id"] == f"{entity.platform}.{entity.config['obj_id']}"
    assert by_key()["sound_smoke_alarm"].config["def_ent_id"] == "binary_sensor.living_room_smoke_alarm"


def test_names_do_not_repeat_the_device() -> None:
    """Home Assistant puts the name of the device before each."""
    for entity in entities(EAR):
        if entity.platform != "device_automation":
            assert entity.config["name"]
            assert "living" not in str(entity.config["name"]).lower()


def test_what_home_assistant_would_refuse() -> None:
    """Device classes, units, categories and qos are where they may and must be; nothing is optimistic."""
    config = {key: entity.config for key, entity in by_key().items()}
    assert {sound: config[f"sound_{sound}"]["dev_cla"] for sound in SOUNDS} == {
        "smoke_alarm": "smoke",
        "co_alarm": "carbon_monoxide",
        "dog_bark": "sound",
        "left-over": "sound",
    }
    assert "dev_cla" not in config["level"]
    assert "dev_cla" not in config["detection"]
    assert config["level"]["unit_of_meas"] == "dBFS"
    for entity in entities(EAR):
        category = entity.config.get("ent_cat")
        assert entity.config["qos"] == 1
        if entity.platform in ("sensor", "binary_sensor"):
            assert category in (None, "diagnostic")
        if "cmd_t" in entity.config:
            assert category == "config"
            assert "stat_t" in entity.config


def test_what_explains_a_lost_source_stays_available() -> None:
    """Settings, events and diagnostics are available while the daemon is; states, while the source is too."""
    node = [{"t": "streamer/pi/status"}]
    payload = json.loads(told()[DEVICE])
    assert payload["avty"] == [*node, {"t": "streamer/pi/living_room/status"}]
    assert payload["avty_mode"] == "all"
    own = {key for key, component in payload["cmps"].items() if component.get("avty") == node}
    settings = {key for key, component in payload["cmps"].items() if "cmd_t" in component}
    assert own == settings | {"problem", "detection"}
    node_device = json.loads(payloads([NodeDevice(TOPICS)], "homeassistant", "device")[NODE])
    assert node_device["avty"] == node


def test_topics_are_those_of_the_contract() -> None:
    """Every topic that an entity reads or writes is one that the program has."""
    devices = (EAR, NodeDevice(TOPICS))
    payload = json.dumps([device_config(device, entities(device)) for device in devices])
    known = {TOPICS.status, TOPICS.stats}
    source = EAR.source
    of_source = (TOPICS.source_status, TOPICS.problem, TOPICS.last, TOPICS.level, TOPICS.labels)
    known |= {f(source) for f in (*of_source, TOPICS.any_sound, TOPICS.any_sound_attributes)}
    known |= {TOPICS.event(source, "start"), TOPICS.problem_attributes(source)}
    known |= {
        f(source, end) for f in (TOPICS.listen, TOPICS.profile, TOPICS.mute) for end in ("state", "set")
    }
    for sound in SOUNDS:
        known |= {TOPICS.sound_state(source, sound), TOPICS.sound_attributes(source, sound)}
        for end in ("state", "set"):
            known |= {f(source, sound, end) for f in (TOPICS.threshold, TOPICS.listen_for)}
    assert set(re.findall(r'"(streamer/[^"]*)"', payload)) == known


def test_without_commands() -> None:
    """Where nobody may command, there is nothing to command with."""
    ear = DiscoveryDevice(TOPICS, "living_room", SOUNDS, SOUNDS, commands=False)
    assert not [entity for entity in entities(ear) if "cmd_t" in entity.config]


@pytest.mark.parametrize(
    ("urls", "found"),
    [
        ([], None),
        (["Source, https://example.com/source"], None),
        (["Homepage, https://example.com/"], "https://example.com/"),
        (["Homepage, https://example.com/", "Support,https://example.com/help"], "https://example.com/help"),
    ],
)
def test_where_to_get_help(
    urls: list[str], found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that the package's own metadata names for it; none is made up."""
    (tmp_path / "sample-1.dist-info").mkdir()
    lines = ["Metadata-Version: 2.4", "Name: sample", "Version: 1", *(f"Project-URL: {url}" for url in urls)]
    (tmp_path / "sample-1.dist-info" / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    about = {"name": "streamer", "sw": __version__}
    assert origin("sample") == about | ({"url": found} if found else {})
    assert origin("not-installed") == about
    assert json.loads(told()[DEVICE])["o"] == origin()


def test_the_form_of_an_entity() -> None:
    """Each payload has its device, origin and availability; Domoticz finds what is not enabled at first."""
    payload = entity_config(EAR, by_key()["sound_dog_bark"])
    assert payload["obj_id"] == "living_room_dog_bark"
    assert payload["dev"] == device_config(EAR, [])["dev"]
    assert payload["avty_mode"] == "all"
    assert payload["enabled_by_default"] is False
    assert "en" not in payload
    trigger = entity_config(EAR, by_key()["trigger_dog_bark"])
    assert not trigger.keys() & {"avty", "uniq_id", "obj_id", "name"}
    topics = set(told("entity"))
    assert "homeassistant/binary_sensor/streamer_pi_living_room/sound_dog_bark/config" in topics
    assert "homeassistant/device_automation/streamer_pi_living_room/trigger_dog_bark/config" in topics
    assert len(topics) == len(entities(EAR))


def config(message: Message) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(message.payload)
    return loaded


def test_the_first_announcement_and_the_next() -> None:
    """One retained message a device, the same again."""
    payloads = told()
    first = messages(payloads, {})
    assert first == [Message(DEVICE, payloads[DEVICE], qos=1, retain=True)]
    assert messages(payloads, announced(payloads)) == first


def test_a_sound_that_is_gone() -> None:
    """Its components are told to go, and then are not named any more; the rest stays as it is."""
    fewer = DiscoveryDevice(TOPICS, "living_room", ("smoke_alarm",), ("smoke_alarm",), commands=True)
    going, after = messages(told(ear=fewer), announced(told()))
    gone = {
        f"{kind}_{sound}" for kind in ("sound", "trigger", "threshold", "listen_for") for sound in SOUNDS[1:]
    }
    components, left = config(going)["cmps"], config(after)["cmps"]
    assert components.keys() - left.keys() == gone
    assert all(components[key].keys() == {"p"} for key in gone)
    assert {key: components[key] for key in left} == left
    assert going.retain
    assert after.retain


@pytest.mark.parametrize("form", ["device", "entity"])
def test_a_source_that_is_gone(form: str) -> None:
    """Its topics are cleared, before others are announced: a rename takes the old device away."""
    other = DiscoveryDevice(TOPICS, "hall", SOUNDS, SOUNDS, commands=True)
    before = announced(told(form))
    sent = messages(told(form, other), before)
    assert sent[: len(before)] == [Message(topic, "", qos=1, retain=True) for topic in before]
    assert [message.topic for message in sent[len(before) :]] == list(told(form, other))


def test_a_sound_that_is_gone_entity_by_entity() -> None:
    """Only its own topics are cleared."""
    fewer = DiscoveryDevice(TOPICS, "living_room", SOUNDS[:3], SOUNDS[:3], commands=True)
    sent = messages(told("entity", fewer), announced(told("entity")))
    cleared = {message.topic.split("/")[-2] for message in sent if not message.payload}
    assert cleared == {f"{kind}_left-over" for kind in ("sound", "trigger", "threshold", "listen_for")}
    assert not [message for message in sent if "migrate" in message.payload]


@pytest.mark.parametrize(("old", "new"), [("entity", "device"), ("device", "entity")])
def test_from_one_form_to_the_other(old: str, new: str) -> None:
    """First all are told that they move, then the old topics are cleared, then the new ones are written."""
    before = announced(told(old))
    sent = messages(told(new), before)
    n = len(before)
    assert [config(message) for message in sent[:n]] == [{"migrate_discovery": True}] * n
    assert not any(message.retain for message in sent[:n])
    assert [(message.topic, message.payload) for message in sent[n : 2 * n]] == [
        (topic, "") for topic in before
    ]
    assert [message.topic for message in sent[2 * n :]] == list(told(new))


def test_no_home_assistant_any_more() -> None:
    """Where it is not configured any more, all is cleared."""
    assert messages({}, announced(told())) == [Message(DEVICE, "", qos=1, retain=True)]


def test_another_prefix() -> None:
    """All is cleared under the old one first."""
    sent = messages(told(prefix="ha/discovery"), announced(told()))
    assert [(message.topic, bool(message.payload)) for message in sent] == [
        (DEVICE, False),
        ("ha/discovery/device/streamer_pi_living_room/config", True),
    ]


HOME = load_config(Path(__file__).parents[2] / "configs" / "home.yaml")
SOURCE = "homeassistant/device/streamer_home_living_room/config"


def home_payloads(**changes: object) -> dict[str, Any]:
    """What is announced for configs/home.yaml, by topic."""
    config = HOME.model_copy(update=changes)
    labelled = [name for name, sound in config.sounds.items() if sound.labels]
    found = discovery(config, Topics("streamer", "home"), thresholds=labelled).messages({})
    return {message.topic: json.loads(message.payload) for message in found}


def test_few_entities_at_first() -> None:
    """Of configs/home.yaml a person sees at most twelve a source, and all alarms are among them."""
    components = home_payloads()[SOURCE]["cmps"]
    enabled = {
        key for key, one in components.items() if one["p"] != "device_automation" and one.get("en", True)
    }
    assert enabled == {
        *("detection", "any_sound", "last", "level", "problem", "listen", "mute", "profile"),
        *("sound_smoke_alarm", "sound_carbon_monoxide_alarm", "sound_siren", "sound_glass_break"),
    }


def test_the_user_marks_sounds() -> None:
    """`shown` goes before the priority, either way."""
    marked = {
        name: sound.model_copy(update={"shown": name == "dog_bark"} if name in ("dog_bark", "siren") else {})
        for name, sound in HOME.sounds.items()
    }
    components = home_payloads(sounds=marked)[SOURCE]["cmps"]
    assert components["sound_dog_bark"].get("en", True)
    assert not components["sound_siren"].get("en", True)


def test_sources_are_behind_their_node() -> None:
    """The node has the version and the link; a source names it, and its room."""
    settings = HomeAssistantSettings(page_url="http://home.local:8099/")
    room = HOME.sources["living_room"].model_copy(update={"name": "Wohnzimmer „Süd“", "area": "居間"})
    found = home_payloads(home_assistant=settings, sources={"living_room": room})
    node = found["homeassistant/device/streamer-home/config"]
    assert node["dev"]["sw"] == __version__
    assert node["dev"]["cu"] == "http://home.local:8099/"
    assert set(node["cmps"]) == {"latency", "waiting"}
    source = found[SOURCE]["dev"]
    assert source["via_device"] in node["dev"]["ids"]
    assert (source["name"], source["sa"]) == ("Wohnzimmer „Süd“", "居間")


@pytest.mark.parametrize("language", get_args(Language))
def test_a_language_changes_names_alone(language: Language) -> None:
    """Ids, topics and everything else stay, so that history and automations stay."""
    named, english = home_payloads(language=language)[SOURCE], home_payloads()[SOURCE]
    for key, one in named["cmps"].items():
        assert {**one, "name": ""} == {**english["cmps"][key], "name": ""}
    if language == "de":
        assert named["cmps"]["sound_smoke_alarm"]["name"] == "Rauchmelder"
        assert named["cmps"]["any_sound"]["name"] == "Irgendein Geräusch"


def test_a_calibrated_level() -> None:
    """dB(A) is a sound pressure; dBFS is none, and Home Assistant would refuse it."""
    room = HOME.sources["living_room"].model_copy(update={"calibration_db": 94.0})
    calibrated = home_payloads(sources={"living_room": room})[SOURCE]["cmps"]["level"]
    assert (calibrated["dev_cla"], calibrated["unit_of_meas"]) == ("sound_pressure", "dBA")
    plain = home_payloads()[SOURCE]["cmps"]["level"]
    assert plain["unit_of_meas"] == "dBFS"
    assert "dev_cla" not in plain


@pytest.mark.parametrize("key", ["detection", "sound_dog_bark", "last"])
def test_attributes_have_no_scores_of_labels(key: str) -> None:
    """Each row of the database of a home would have other ones; names of labels are enough."""
    template = str(by_key()[key].config["val_tpl" if key == "detection" else "json_attr_tpl"])
    environment = Environment()  # noqa: S701  no HTML
    environment.filters["to_json"] = json.dumps
    message = event_message(event(), "pi")
    rendered = json.loads(environment.from_string(template).render(value_json=message))
    assert rendered["labels"] == ["Dog", "Bark"]
    assert rendered["peak"] == 0.93
    before = {**message, "labels": None}
    assert json.loads(environment.from_string(template).render(value_json=before))["labels"] == []


def test_a_calibrated_source_has_a_sound_pressure() -> None:
    """In dBA, which Home Assistant knows; without calibration a plain number in dBFS."""
    device = DiscoveryDevice(TOPICS, "living_room", SOUNDS, SOUNDS, commands=True, is_calibrated=True)
    parts = {entity.key: entity.config for entity in entities(device)}
    assert parts["level"]["dev_cla"] == "sound_pressure"
    assert parts["level"]["unit_of_meas"] == "dBA"
    assert parts["level"]["stat_t"] == TOPICS.level_dba("living_room")
    plain = {entity.key: entity.config for entity in entities(EAR)}
    assert "dev_cla" not in plain["level"]
    assert plain["level"]["unit_of_meas"] == "dBFS"
    assert plain["problem"]["json_attr_t"] == TOPICS.problem_attributes("living_room")


def test_what_is_expected_again_has_a_problem_sensor() -> None:
    """Disabled at first, available while the daemon is: also a source that is lost may have been missed."""
    device = DiscoveryDevice(TOPICS, "living_room", SOUNDS, SOUNDS, commands=True, expected=("dog_bark",))
    (found,) = [entity for entity in entities(device) if entity.key.startswith("overdue")]
    assert (found.platform, found.key) == ("binary_sensor", "overdue_dog_bark")
    assert found.config["dev_cla"] == "problem"
    assert found.config["name"] == "Dog bark overdue"
    assert found.config["stat_t"] == "streamer/pi/living_room/sound/dog_bark/overdue"
    assert found.config["json_attr_t"] == "streamer/pi/living_room/sound/dog_bark/overdue/attributes"
    assert found.config["en"] is False
    assert found.config["avty"] == [{"t": "streamer/pi/status"}]
    assert not [entity for entity in entities(EAR) if entity.key.startswith("overdue")]


def test_the_entities_of_the_guide() -> None:
    """What the guide, its card and its automations name is announced for a kitchen with configs/home.yaml."""
    guide = (Path(__file__).parents[2] / "docs" / "home-assistant" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\b(?:event|[a-z_]*sensor|switch|select|number)\.kitchen_[a-z_]+(?![a-z_<])", guide)
    found = home_payloads(sources={"kitchen": HOME.sources["living_room"]})
    kitchen = found["homeassistant/device/streamer_home_kitchen/config"]["cmps"].values()
    assert len(named) > 15
    assert set(named) <= {one["def_ent_id"] for one in kitchen if "def_ent_id" in one}


def test_the_configuration_of_the_guide(tmp_path: Path) -> None:
    """The example that the guide begins with is a configuration, with its sections in place of its own."""
    guide = (Path(__file__).parents[2] / "docs" / "home-assistant" / "README.md").read_text(encoding="utf-8")
    assert "streamer config example home > streamer.yaml" in guide
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "sources:" in block)
    path = tmp_path / "streamer.yaml"
    rest = example("home").read_text(encoding="utf-8")
    for section in re.findall(r"^(\w+):", text, re.MULTILINE):
        rest = re.sub(rf"^{section}:.*\n(?:(?:[ #].*)?\n)*", "", rest, flags=re.MULTILINE)
    path.write_text(text + rest, encoding="utf-8")
    config = load_config(path)
    assert len(config.sounds) == len(HOME.sounds)
    assert (config.sources["kitchen"].area, config.mqtt.username) == ("Kitchen", "streamer")
