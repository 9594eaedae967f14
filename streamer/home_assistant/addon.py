"""As an add-on of Home Assistant: its options and the supervisor's broker become a configuration."""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from streamer.config.schema import Port, load_config
from streamer.config.yaml import DisplayName, Section
from streamer.core.files import write_text
from streamer.errors import ConfigError, SourceError
from streamer.language import FALLBACK, Language

SUPERVISOR = "supervisor"
"""the supervisor's name in the network of add-ons"""
CONFIG_FOLDER = Path("/config")
"""where the user's own files are, on the host `addon_configs/…_streamer`"""
TIMEOUT_S = 10.0
MQTT_SERVICE = "/services/mqtt"
INGRESS_PORT = 8099
"""where the supervisor looks for the page of an add-on"""
INGRESS_PROXY = "172.30.32.2"
"""the address that it comes from, with a user who has signed in at Home Assistant"""


class CameraOptions(Section):
    """Of a camera, or anything else that has an address."""

    name: DisplayName
    """What people read; its source's id is made of it."""
    address: Annotated[str, Field(min_length=1)]
    """rtsp://, http:// or a file below /media."""


class Options(Section):
    """What a user can set on the add-on's page; `addon/streamer/config.yaml` has the same keys."""

    microphone: bool = True
    """Listen to the input that is chosen under Audio."""
    microphone_name: DisplayName = "Microphone"
    """What people read."""
    cameras: list[CameraOptions] = Field(default_factory=list)
    """What else to listen to."""
    sounds: list[str] = Field(default_factory=list)
    """What to listen for; all sounds of configs/home.yaml where empty."""
    language: Language = FALLBACK
    """Of the names of sounds and entities."""
    configuration: Annotated[str, Field(pattern=r"^[\w.-]+\.ya?ml$")] | None = None
    """A file in the add-on's configuration folder, which says all but broker and state instead."""
    broker_host: str | None = None
    """A broker that is no add-on; the supervisor's where not set."""
    broker_port: Port = 1883
    broker_username: str | None = None
    broker_password: str | None = None


class Broker(Section):
    """Where and as whom to log in; the supervisor's answer has more, of which nothing is needed."""

    host: str
    port: Port
    username: str | None = None
    password: str | None = None
    ssl: bool = False


def read_options(path: Path) -> Options:
    """Raises ConfigError, with a line for each option that is wrong."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        return Options.model_validate(given)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: the add-on's options cannot be read: {error}") from None
    except ValidationError as error:
        lines = (f"option {_dotted(e['loc'])}: {e['msg']}" for e in error.errors(include_url=False))
        raise ConfigError(*lines) from None


def supervisors_broker(token: str, address: str = SUPERVISOR) -> Broker:
    """The broker that an add-on such as Mosquitto has announced; `address` is a host, or host:port.

    Raises SourceError where there is none now.
    """
    connection = HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", MQTT_SERVICE, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status == HTTPStatus.OK and answer["result"] == "ok":
            given = {key: value for key, value in answer["data"].items() if key in Broker.model_fields}
            return Broker.model_validate(given)
        reason = str(answer["message"])
    except (OSError, HTTPException) as error:
        reason = f"{address} does not answer ({error})"
    except (ValueError, LookupError, TypeError, AttributeError):
        reason = f"{address} gave an answer that is none"
    finally:
        connection.close()
    raise SourceError(
        f"no MQTT broker: {reason}; install the add-on Mosquitto broker and start it, or set broker_host"
    )


def write_configuration(options: Options, broker: Broker, data: Path, own: Path = CONFIG_FOLDER) -> Path:
    """Write a configuration for `streamer run` to `data`, and the password to a file of its own; its path.

    `own` is where the user's configuration is. Raises ConfigError.
    """
    if options.configuration is None:
        settings = _from_options(options)
    else:
        settings = load_config(own / options.configuration).model_dump(mode="json", exclude_unset=True)
    mqtt: dict[str, object] = {"host": broker.host, "port": broker.port}
    if broker.ssl:
        mqtt["tls"] = {}
    if broker.username:
        mqtt |= {"username": broker.username, "password_file": str(data / "mqtt-password")}
        write_text(data / "mqtt-password", f"{broker.password or ''}\n", mode=0o600)
    # What must be as the add-on has it; of an own file's broker section the rest stays.
    settings["mqtt"] = {**_without_login(settings.get("mqtt", {})), **mqtt}
    settings.setdefault("home_assistant", {})
    # Nobody knows this password, so that the page is reached through the supervisor alone, which needs none.
    write_text(data / "web-password", f"{secrets.token_urlsafe(32)}\n", mode=0o600)
    settings["web"] = {
        "enabled": True,
        "host": "0.0.0.0",  # noqa: S104  # of the add-on's own network
        "port": INGRESS_PORT,
        "ingress_proxies": [INGRESS_PROXY],
        "password_file": str(data / "web-password"),
    }
    settings.pop("state_dir", None)
    path = data / "streamer.yaml"
    # JSON is YAML, and cannot be read as anything else than what was meant.
    write_text(path, json.dumps(settings, indent=1, ensure_ascii=False), mode=0o600)
    load_config(path)
    return path


def _from_options(options: Options) -> dict[str, Any]:
    with as_file(files("streamer.config") / "examples" / "home.yaml") as example:
        settings = load_config(example).model_dump(mode="json", exclude_unset=True)
    sources: dict[str, dict[str, object]] = {}
    if options.microphone:
        sources[_id(options.microphone_name, sources)] = {
            "microphone": "default",
            "name": options.microphone_name,
        }
    for camera in options.cameras:
        sources[_id(camera.name, sources)] = {"stream": camera.address, "name": camera.name}
    if not sources:
        raise ConfigError("nothing to listen to: switch the microphone on, or add a camera")
    if unknown := [name for name in options.sounds if name not in settings["sounds"]]:
        raise ConfigError(f"option sounds: no such sound: {', '.join(unknown)}")
    wanted = options.sounds or list(settings["sounds"])
    settings |= {
        "language": options.language,
        "sources": sources,
        "sounds": {name: settings["sounds"][name] for name in wanted},
    }
    del settings["health"], settings["mqtt"]
    return settings


def _without_login(mqtt: Mapping[str, object]) -> dict[str, object]:
    return {
        key: value
        for key, value in mqtt.items()
        if key not in ("username", "password_file", "tls", "embedded")
    }


def _id(name: str, taken: Mapping[str, object]) -> str:
    """`Küche (oben)` as `kuche_oben`; a number behind it where that is taken."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    wanted = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:56] or "source"
    return next(
        tried
        for n in range(1, len(taken) + 2)
        if (tried := wanted if n == 1 else f"{wanted}_{n}") not in taken
    )


def _dotted(keys: tuple[int | str, ...]) -> str:
    return ".".join(str(key) for key in keys)
