"""The add-on: options and broker become a configuration; its folder is what the store takes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import streamer
from streamer.config.schema import Config, load_config
from streamer.config.sources import MicrophoneSettings, StreamSettings
from streamer.data.synthesis import write_demo
from streamer.errors import ConfigError, SourceError
from streamer.home_assistant.addon import (
    Broker,
    Options,
    read_options,
    supervisors_broker,
    write_configuration,
)
from streamer.language import Language
from streamer.store.clips import clip_path
from tests.daemon import Daemon
from tests.home_assistant.supervisor import TOKEN, Supervisor, serving
from tests.mosquitto import HOST, Mosquitto, Subscribe
from tools.container.dockerfile import read

PROJECT = Path(__file__).parents[2]
APP = PROJECT / "addon" / "streamer"
MANIFEST: dict[str, Any] = yaml.safe_load((APP / "config.yaml").read_text(encoding="utf-8"))
BROKER = Broker(host="core-mosquitto", port=1883, username="addons", password="kae3Oo")  # noqa: S106  # made up
ELEMENT = re.compile(
    r"(bool|email|url|port|device|(str|password|int|float)(\([\d.]*,[\d.]*\))?|match\(.*\)|list\(.+\))\??"
)
"""what the documentation of add-ons allows in a schema"""
DEADLINE_S = 60


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with serving() as server:
        yield server


def configured(folder: Path, options: dict[str, Any], broker: Broker = BROKER) -> Config:
    """What an add-on with these options, and defaults else, runs with."""
    (folder / "options.json").write_text(json.dumps(MANIFEST["options"] | options), encoding="utf-8")
    return load_config(write_configuration(read_options(folder / "options.json"), broker, folder, folder))


def test_a_new_add_on_needs_nothing_typed(tmp_path: Path) -> None:
    """By default: the chosen input, all sounds, the supervisor's broker, devices in Home Assistant."""
    config = configured(tmp_path, {})
    assert config.sources == {"microphone": MicrophoneSettings(microphone="default", name="Microphone")}
    assert config.sounds == load_config(PROJECT / "configs/home.yaml").sounds
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.username) == ("core-mosquitto", 1883, "addons")
    assert config.mqtt.tls is None
    assert config.home_assistant is not None
    assert config.state_dir is None


def test_passwords_are_for_the_add_on_alone(tmp_path: Path) -> None:
    """The broker's is in a file of its own, and others can read neither: cameras have passwords, too."""
    config = configured(tmp_path, {"cameras": [{"name": "Door", "address": "rtsp://a:b@c/d"}]})
    assert config.mqtt.password_file == tmp_path / "mqtt-password"
    assert config.mqtt.password_file.read_text(encoding="utf-8") == "kae3Oo\n"
    assert "kae3Oo" not in (tmp_path / "streamer.yaml").read_text(encoding="utf-8")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert (modes["mqtt-password"], modes["streamer.yaml"]) == (0o600, 0o600)


def test_the_page_is_reached_through_the_supervisor_alone(tmp_path: Path) -> None:
    """On the port of the manifest, for its address; others would need a password that nobody knows."""
    config = configured(tmp_path, {})
    assert (config.web.enabled, config.web.port) == (True, MANIFEST["ingress_port"])
    assert (MANIFEST["ingress"], config.web.ingress_proxies) == (True, ["172.30.32.2"])
    assert config.web.password_file is not None
    first = config.web.password_file.read_text(encoding="utf-8")
    assert len(first) > 40
    assert configured(tmp_path, {}).web == config.web
    assert config.web.password_file.read_text(encoding="utf-8") != first
    assert config.web.password_file.stat().st_mode & 0o777 == 0o600


def test_names_become_ids(tmp_path: Path) -> None:
    """Whatever the script: an id that is safe in topics, the same at each start, no two alike."""
    names = ["Küche (oben)", "Küche  oben", "玄関", "Гараж", "Tür"]
    cameras = [{"name": name, "address": f"rtsp://camera{i}/"} for i, name in enumerate(names)]
    config = configured(tmp_path, {"microphone_name": "Flur", "cameras": cameras, "language": "de"})
    assert {key: source.name for key, source in config.sources.items()} == {
        "flur": "Flur",
        "kuche_oben": names[0],
        "kuche_oben_2": names[1],
        "source": names[2],
        "source_2": names[3],
        "tur": names[4],
    }
    assert config.language == "de"


def test_cameras_without_a_microphone(tmp_path: Path) -> None:
    """The microphone is not opened where it is switched off; its absence and that of cameras is an error."""
    config = configured(
        tmp_path, {"microphone": False, "cameras": [{"name": "Door", "address": "/media/a.wav"}]}
    )
    assert config.sources == {"door": StreamSettings(stream="/media/a.wav", name="Door")}
    with pytest.raises(ConfigError, match="switch the microphone on, or add a camera"):
        configured(tmp_path, {"microphone": False})


def test_chosen_sounds(tmp_path: Path) -> None:
    """Only those that are chosen, with the thresholds that they have."""
    config = configured(tmp_path, {"sounds": ["doorbell", "smoke_alarm"]})
    home = load_config(PROJECT / "configs/home.yaml")
    assert config.sounds == {name: home.sounds[name] for name in ("doorbell", "smoke_alarm")}


def test_a_configuration_of_ones_own(tmp_path: Path) -> None:
    """Says everything but the broker's address and login, and where the state is."""
    (tmp_path / "mine.yaml").write_text(
        "state_dir: /elsewhere\nsources: {attic: {microphone: USB}}\n"
        "sounds: {siren: {on: 0.4, labels: [Siren]}}\n"
        "mqtt: {host: elsewhere, username: nobody, tls: {}, prefix: attic}\n",
        encoding="utf-8",
    )
    config = configured(tmp_path, {"configuration": "mine.yaml"})
    assert config.sources == {"attic": MicrophoneSettings(microphone="USB")}
    assert config.sounds["siren"].on == 0.4
    assert (config.mqtt.host, config.mqtt.username, config.mqtt.prefix) == (
        "core-mosquitto",
        "addons",
        "attic",
    )
    assert (config.mqtt.tls, config.state_dir) == (None, None)
    with pytest.raises(ConfigError, match=r"other\.yaml: no such file"):
        configured(tmp_path, {"configuration": "other.yaml"})


def test_clips_have_a_place(tmp_path: Path) -> None:
    """In the add-on's data: always there, writable also for AppArmor, and left out of backups."""
    (tmp_path / "mine.yaml").write_text(
        "state_dir: /elsewhere\nsources: {attic: {microphone: USB}}\nclips: {enabled: true, max_mb: 500}\n"
        "sounds: {siren: {on: 0.4, labels: [Siren]}}\n",
        encoding="utf-8",
    )
    config = configured(tmp_path, {"configuration": "mine.yaml"})
    assert (config.clips.enabled, config.clips.max_mb, config.state_dir) == (True, 500, None)
    last = (APP / "addon.Dockerfile").read_text(encoding="utf-8")
    (state,) = re.findall(r"\bSTATE_DIRECTORY=(\S+)", last)
    clip = clip_path(Path(state), "0123456789ab", 1.8e9)
    mounted = {"/media": "media", "/config": "addon_config"}
    read_only = {one["type"] for one in MANIFEST["map"] if one["read_only"]}
    assert not [path for path, kind in mounted.items() if kind in read_only and clip.is_relative_to(path)]
    assert clip.is_relative_to("/data")
    assert re.search(r"^  /data/\*\* rwkl,$", (APP / "apparmor.txt").read_text(encoding="utf-8"), re.M)
    # The supervisor matches these as pathlib does, from the right, and a folder that matches is not entered.
    day = Path("data") / clip.parent.relative_to("/data")
    assert any(day.match(pattern) for pattern in MANIFEST["backup_exclude"])
    kept = Path("data") / clip.parents[2].relative_to("/data") / "events.db"
    assert not any(
        path.match(pattern) for path in (kept, kept.parent) for pattern in MANIFEST["backup_exclude"]
    )


def test_a_broker_with_tls_or_without_a_login(tmp_path: Path) -> None:
    """As the service says."""
    config = configured(tmp_path, {}, Broker(host="broker", port=8883, ssl=True))
    assert config.mqtt.tls is not None
    assert (config.mqtt.username, config.mqtt.password_file) == (None, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"microphone": "yes"}', "option microphone: Input should be a valid boolean"),
        ('{"cameras": [{"name": "x"}]}', "option cameras.0.address: Field required"),
        ('{"cameras": [{"name": " ", "address": "x"}]}', "option cameras.0.name"),
        ('{"sounds": ["dinosaur"]}', "option sounds: no such sound: dinosaur"),
        ('{"configuration": "../../etc/passwd"}', "option configuration"),
        ("[]", "option"),
        ("{", "cannot be read"),
        ("\udcff", "cannot be read"),
    ],
)
def test_options_that_are_wrong(tmp_path: Path, text: str, words: str) -> None:
    """A line for people that names the option."""
    (tmp_path / "options.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=re.escape(words)):
        write_configuration(read_options(tmp_path / "options.json"), BROKER, tmp_path, tmp_path)


def test_the_supervisor_knows_the_broker(supervisor: Supervisor) -> None:
    """What it says of the service, by the add-on's token; keys that are not known yet do no harm."""
    supervisor.mqtt = {**BROKER.model_dump(), "addon": "core_mosquitto", "protocol": "3.1.1", "new": 1}
    assert supervisors_broker(TOKEN, supervisor.address) == BROKER
    assert supervisor.requests == ["/services/mqtt"]


@pytest.mark.parametrize(
    "answer", [None, b"", b"[]", b'"x"', b'{"result": "ok"}', b'{"result": "ok", "data": {"host": 1}}']
)
def test_without_a_broker_it_says_what_to_do(supervisor: Supervisor, answer: bytes | None) -> None:
    """No broker, an answer that is none, a wrong token, no supervisor: one line, and another try may help."""
    supervisor.answer = answer
    with pytest.raises(SourceError, match="install the add-on Mosquitto broker"):
        supervisors_broker(TOKEN, supervisor.address)
    with pytest.raises(SourceError, match="no MQTT broker"):
        supervisors_broker("wrong", supervisor.address)
    with pytest.raises(SourceError, match="does not answer"):
        supervisors_broker(TOKEN, "127.0.0.1:9")


def test_the_page_of_options_is_what_the_program_reads() -> None:
    """Schema, defaults and translations have the same keys; choices are all that there are."""
    schema, defaults = MANIFEST["schema"], MANIFEST["options"]
    assert set(schema) == set(Options.model_fields)
    optional = {key for key, kind in schema.items() if isinstance(kind, str) and kind.endswith("?")}
    assert set(defaults) == set(schema) - optional
    kinds = [kind for value in schema.values() for kind in _kinds(value)]
    assert [kind for kind in kinds if not ELEMENT.fullmatch(kind)] == []
    home = load_config(PROJECT / "configs/home.yaml")
    assert schema["sounds"] == [f"list({'|'.join(home.sounds)})"]
    assert set(schema["language"].removeprefix("list(").removesuffix(")").split("|")) == set(
        get_args(Language)
    )
    for path in (APP / "translations").glob("*.yaml"):
        assert set(yaml.safe_load(path.read_text(encoding="utf-8"))["configuration"]) == set(schema), path


def page_status(headers: dict[str, str]) -> int:
    """Of a request for the events of the page of an add-on that runs here."""
    connection = HTTPConnection(HOST, MANIFEST["ingress_port"], timeout=DEADLINE_S)
    try:
        connection.request("GET", "/api/1/events", headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _kinds(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [kind for part in (value.values() if isinstance(value, dict) else value) for kind in _kinds(part)]


def test_pictures_have_the_stores_sizes() -> None:
    """icon.png is square, and both are as large as the store shows them."""
    sizes = {}
    for path in APP.glob("*.png"):
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG")
        sizes[path.name] = struct.unpack(">II", head[16:])
    assert sizes == {"icon.png": (128, 128), "logo.png": (250, 100)}


@pytest.mark.slow
def test_the_profile_of_apparmor_can_be_parsed() -> None:
    """By AppArmor's own parser; its name is the add-on's."""
    assert f"profile {MANIFEST['slug']} flags=" in (APP / "apparmor.txt").read_text(encoding="utf-8")
    done = subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache", APP / "apparmor.txt"],
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr


def test_the_repository_is_whole(tmp_path: Path) -> None:
    """It has all that its Dockerfile copies, the program's version and one add-on."""
    out = tmp_path / "addon"
    subprocess.run(
        [PROJECT / "scripts/addon-repository", out], check=True, capture_output=True, timeout=DEADLINE_S
    )
    app = out / "streamer"
    stages = read(app / "Dockerfile")
    assert list(stages)[-1] == "addon", "the supervisor builds the last stage"
    copied = [
        name
        for stage in stages.values()
        for step in stage.steps
        if step.name == "COPY" and not step.text.startswith("--from=")
        for name in step.text.split()[:-1]
    ]
    assert copied and [name for name in copied if not (app / name).exists()] == []
    assert (app / "rootfs/streamer/config/examples/home.yaml").is_file()
    assert (
        yaml.safe_load((app / "config.yaml").read_text(encoding="utf-8"))["version"] == streamer.__version__
    )
    # The supervisor takes every config.* for an add-on, but below rootfs.
    found = [path for path in out.rglob("config.*") if "rootfs" not in path.parts]
    assert found == [app / "config.yaml"]
    assert {"CHANGELOG.md", "DOCS.md", "README.md", "apparmor.txt"} <= {path.name for path in app.iterdir()}
    assert yaml.safe_load((out / "repository.yaml").read_text(encoding="utf-8"))["name"]


@pytest.mark.slow
async def test_from_options_to_the_first_event(
    supervisor: Supervisor,
    make_mosquitto: Callable[..., Mosquitto],
    subscribe: Subscribe,
    tmp_path: Path,
) -> None:
    """The container's command, with a file as a camera, logs in at that broker and publishes."""
    broker = make_mosquitto(users={"addons": "kae3Oo"})
    supervisor.mqtt = {**BROKER.model_dump(), "host": HOST, "port": broker.port}
    media = write_demo(tmp_path)
    options = {"microphone": False, "cameras": [{"name": "Front door", "address": str(media)}]}
    (tmp_path / "options.json").write_text(json.dumps(MANIFEST["options"] | options), encoding="utf-8")
    heard = await subscribe(broker.port, username="addons", password="kae3Oo")  # noqa: S106  # made up
    command = [
        sys.executable,
        "-m",
        "streamer",
        "addon",
        "--data",
        tmp_path,
        "--supervisor",
        supervisor.address,
    ]
    process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
        command,
        env={**os.environ, "SUPERVISOR_TOKEN": TOKEN, "STATE_DIRECTORY": str(tmp_path / "state")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    daemon = Daemon(process)
    try:
        await asyncio.to_thread(daemon.until_says, "front_door: listening")
        await heard.until(lambda subscriber: bool(subscriber.of("/front_door/event/start")), "an event")
        assert heard.of("homeassistant/device/"), "Home Assistant has not been told of the device"
        # Whoever is not the supervisor may say that he comes from it: he is asked for the password.
        status = await asyncio.to_thread(page_status, {"X-Ingress-Path": "/api/hassio_ingress/abc"})
        assert status == HTTPStatus.UNAUTHORIZED
        assert daemon.stop() == 0
    finally:
        process.kill()
        process.wait()
