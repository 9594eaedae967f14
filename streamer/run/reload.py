"""Takes a changed configuration into use while the daemon runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from streamer.config.control import Control
from streamer.config.schema import Config
from streamer.detection.pipeline import Pipeline
from streamer.errors import StreamerError
from streamer.inference.worker import About
from streamer.ops.systemd import Notifier
from streamer.run.broker_link import BrokerLink
from streamer.run.daemon import Daemon
from streamer.run.model import warn_of_unsupported_sounds, with_measured_hop

NEEDS_RESTART = ("node", "state_dir", "model", "health", "store")
"""what is built once; the rest of a configuration may change while it is in use"""

log = logging.getLogger(__name__)


def reload(
    daemon: Daemon,
    broker: BrokerLink | None,
    control: Control,
    model: About,
    reread: Callable[[], Config],
    notifier: Notifier,
) -> None:
    """Change what can be changed. Where anything of it is wrong, say what, and go on as before."""
    notifier.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
    try:
        config = with_measured_hop(reread(), model)
        Pipeline("reload", config, model.labels)  # refuses sounds whose labels the model does not have
        for section in NEEDS_RESTART:
            if getattr(config, section) != getattr(daemon.config, section):
                log.warning("reload: a change of `%s` takes effect at the next start", section)
                config = config.model_copy(update={section: getattr(daemon.config, section)})
        control.change(config)
        if broker is not None:
            broker.change(config, daemon.config)
        daemon.change(config)
    except StreamerError as error:
        control.change(daemon.config)
        for line in str(error).splitlines():
            log.error("reload: %s", line)  # noqa: TRY400  # the line is all that people need
        log.error("reload: nothing was changed; the configuration from before stays in force")  # noqa: TRY400
    else:
        log.info("reload: the new configuration is in force")
        warn_of_unsupported_sounds(config)
    notifier.notify(READY=1)
