"""What this program runs in a cluster: an application of Ray Serve for each model."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from streamer import __version__
from streamer.config.schema import FleetSettings, ModelSettings
from streamer.errors import ModelError
from streamer.inference.heads import Head
from streamer.inference.ray.cluster import machines
from streamer.inference.ray.replica import Replica

LOADS = 2
"""attempts to load the model before the replicas count as unable to"""
HEALTH_S = 5.0
HEALTH_LIMIT_S = 30.0
GRACE_S = 10.0
"""for the batches under way when a replica is stopped"""
APPLICATION = "streamer-"
"""how the names of this program's applications begin"""
DEPLOYMENT = "model"


def application(
    fleet: FleetSettings, settings: ModelSettings, engine: str | None, heads: Sequence[Head]
) -> str:
    """The name under which all daemons find the replicas of one model, of one version of this program."""
    what = (
        _there(fleet, settings).model_dump(mode="json"),
        engine,
        [asdict(head) for head in heads],
        __version__,
    )
    return APPLICATION + hashlib.sha256(json.dumps(what).encode()).hexdigest()[:8]


def deploy(
    name: str, fleet: FleetSettings, settings: ModelSettings, engine: str | None, heads: Sequence[Head]
) -> Any:
    """The handle of the replicas, which are told to start where they do not run; nobody waits for them."""
    serve = _serve()
    serve.start(proxy_location="Disabled")
    found = serve.status().applications.get(name)
    if found is not None and found.status in ("RUNNING", "DEPLOYING", "UNHEALTHY"):
        return serve.get_app_handle(name)
    replicas = fleet.replicas
    how_many: dict[str, Any] = (
        {"num_replicas": replicas.min}
        if replicas.min == replicas.max
        else {
            "autoscaling_config": {
                "min_replicas": replicas.min,
                "max_replicas": replicas.max,
                "target_ongoing_requests": 2,
            }
        }
    )
    deployment = serve.deployment(
        Replica,
        name=DEPLOYMENT,
        max_ongoing_requests=2 * fleet.flights,
        ray_actor_options={"num_cpus": 1, "num_gpus": _gpus(settings)},
        health_check_period_s=HEALTH_S,
        health_check_timeout_s=HEALTH_LIMIT_S,
        graceful_shutdown_timeout_s=GRACE_S,
        max_constructor_retry_count=LOADS,
        **how_many,
    )
    own = _there(fleet, settings).model_dump(mode="json")
    bound = deployment.bind(own, engine, [asdict(head) for head in heads])
    target = serve.RunTarget(target=bound, name=name, route_prefix=None)
    (handle,) = serve.run_many([target], wait_for_applications_running=False)
    return handle


def require_start(name: str) -> None:
    """Raises ModelError where the replicas of an application cannot load the model."""
    found = _serve().status().applications.get(name)
    if found is not None and found.status == "DEPLOY_FAILED":
        causes = [one.message for one in found.deployments.values() if one.message]
        raise ModelError(f"fleet: the replicas do not start: {_last(causes)}")


def states() -> Mapping[str, str]:
    """How this program's applications are, which all daemons of the cluster share: a clause each, by name."""
    serve = _serve()
    return {
        name: ", ".join(
            [
                found.status.lower(),
                *(
                    f"{count} replicas {state.lower()}"
                    for own in found.deployments.values()
                    for state, count in own.replica_states.items()
                ),
            ]
        )
        for name, found in serve.status().applications.items()
        if name.startswith(APPLICATION)
    }


def drain(names: Sequence[str]) -> None:
    """End applications: their replicas finish what they have, and give their devices back."""
    serve = _serve()
    for name in names:
        serve.delete(name)


def _there(fleet: FleetSettings, settings: ModelSettings) -> ModelSettings:
    """The settings of a replica: it computes a call at once."""
    return settings.model_copy(update={"max_batch": fleet.batch, "batch_wait_s": 0.0})


def _serve() -> Any:
    """Ray Serve, which logs what comes back as an error, too, and each of its steps."""
    from ray import serve  # noqa: PLC0415  # slow to load

    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)
    return serve


def _gpus(settings: ModelSettings) -> int:
    """That each replica needs: one where the model may use it and the cluster has any."""
    if settings.first_device == "auto":
        return int(machines().gpus > 0)
    return int(settings.first_device.startswith("cuda"))


def _last(causes: Sequence[str]) -> str:
    """The last line of a traceback, which has the error."""
    lines = [line for cause in causes for line in cause.strip().splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["Ray does not say why"])[-1].strip()
