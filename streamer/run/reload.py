"""Takes a changed configuration into use while the daemon runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.core.threads import in_thread
from streamer.detection.pipeline import Pipeline
from streamer.errors import ConfigError, StreamerError
from streamer.inference.worker import About
from streamer.ops.systemd import Notifier
from streamer.run.broker_link import BrokerLink
from streamer.run.daemon import Daemon
from streamer.run.model import warn_of_unsupported_sounds, with_measured_hop

NEEDS_RESTART = (
    "node",
    "state_dir",
    "model",
    "health",
    "web",
    "store",
    "clips",
    "alerts",
    "gateway",
    "fleet",
)
"""sections that are used once, at the start"""
READ_S = 10.0
"""seconds that reading the file may take: it may be a pipe, or on a drive that is gone"""
PAUSE_S = 1.0
"""seconds between two reloads; what is requested meanwhile is one more"""

log = logging.getLogger(__name__)


class Reloader:
    """Reloads the configuration when requested: read in a thread, taken into use on the event loop."""

    def __init__(
        self,
        daemon: Daemon,
        broker: BrokerLink | None,
        control: Control,
        model: About,
        reread: Callable[[], Config],
        notifier: Notifier,
    ) -> None:
        self._daemon = daemon
        self._broker = broker
        self._control = control
        self._model = model
        self._reread = reread
        self._notifier = notifier
        self._requested = asyncio.Event()

    def request(self) -> None:
        """Reload soon. Requests that come while a reload goes on, or soon after it, are one."""
        self._requested.set()

    async def run(self) -> None:
        """Reload when requested, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            self._notifier.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
            try:
                self._change(await self._read())
            except Exception as error:
                self._log_failure(error)
            self._notifier.notify(READY=1)
            await asyncio.sleep(PAUSE_S)

    async def _read(self) -> Config:
        """Raises ConfigError."""

        def read() -> Config:
            config = with_measured_hop(self._reread(), self._model)
            new = sorted(config.labels - set(self._model.labels))
            if self._daemon.config.fleet is not None and new:
                raise ConfigError(
                    f"sounds: {new[0]}: the fleet sends scores of a further label after a restart"
                )
            Pipeline("reload", config, self._model.labels)  # raises where a sound has a label of no model
            return config

        try:
            return await in_thread(read, "reload", READ_S)
        except TimeoutError:
            raise ConfigError(f"the file could not be read within {READ_S:g} s") from None

    def _change(self, config: Config) -> None:
        """Change what can be changed. Where the broker refuses its part, nothing is changed."""
        before = self._daemon.config
        if config.nodes and before.gateway is None:
            raise ConfigError(
                f"sources: {config.nodes[0]} is a node, and `gateway` is used at the next start"
            )
        for section in NEEDS_RESTART:
            if getattr(config, section) != getattr(before, section):
                log.warning("reload: a change of `%s` takes effect at the next start", section)
                config = config.model_copy(update={section: getattr(before, section)})
        used_once = {key: getattr(before.mqtt, key) for key in ("enabled", "embedded")}
        if any(getattr(config.mqtt, key) != value for key, value in used_once.items()):
            log.warning("reload: a change of `mqtt.enabled` or `embedded` takes effect at the next start")
            config = config.model_copy(update={"mqtt": config.mqtt.model_copy(update=used_once)})
        self._control.change(config)
        if self._broker is not None:
            try:
                self._broker.change(config, before)
            except StreamerError:
                self._control.change(before)
                raise
        self._daemon.change(config)
        log.info("reload: the new configuration is in force")
        warn_of_unsupported_sounds(config)

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, StreamerError):
            for line in str(error).splitlines():
                log.error("reload: %s", line)
        else:
            log.error("reload: a fault in the program", exc_info=error)
        log.error("reload: nothing was changed; the configuration from before stays in force")
