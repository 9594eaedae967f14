"""The MQTT sink of a daemon and what it needs, exchanged where its settings change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from streamer.config.control import Control
from streamer.config.schema import Config, MqttSettings
from streamer.core.json_file import JsonFile
from streamer.home_assistant.discovery import discovery
from streamer.metrics import Metrics
from streamer.mqtt.publisher import MqttSink
from streamer.mqtt.topics import Topics
from streamer.sinks.exchangeable import ExchangeableSink
from streamer.store.writer import Consumer


class BrokerLink:
    """The MQTT sink, a consumer of the event log; another takes its place where the settings change."""

    def __init__(
        self,
        config: Config,
        directory: Path | None,
        events: Consumer,
        metrics: Metrics,
        address: Mapping[str, object],
        control: Control,
    ) -> None:
        """`address` is that of the embedded broker, if there is one."""
        self._metrics = metrics
        self._control = control
        self._announced = JsonFile(directory, "announced.json")
        self._address = address
        self._events = events
        self.sink = ExchangeableSink(self._sink(config))
        mqtt = self._settings(config)
        topic = f"{mqtt.prefix}/{config.node}/+/event/#"
        self.subscription = f"mosquitto_sub -h {mqtt.host} -p {mqtt.port or 1883} -v -t '{topic}'"

    def change(self, config: Config, before: Config) -> None:
        """Raises ConfigError, and nothing is changed."""
        if _published_settings(config) != _published_settings(before):
            self.sink.exchange(self._sink(config))

    def _sink(self, config: Config) -> MqttSink:
        settings = self._settings(config)
        return MqttSink(
            settings,
            config.node,
            config.sources,
            config.sounds,
            self._events,
            self._metrics,
            control=self._control,
            discovery=discovery(
                config.home_assistant,
                Topics(settings.prefix, config.node),
                config.sources,
                config.sounds,
                self._control if settings.commands else None,
            ),
            announced=self._announced,
        )

    def _settings(self, config: Config) -> MqttSettings:
        return config.mqtt.model_copy(update=self._address)


def _published_settings(config: Config) -> tuple[object, ...]:
    calibrated = {source_id: own.calibration_db is not None for source_id, own in config.sources.items()}
    return config.mqtt, config.home_assistant, calibrated, set(config.sounds)
