"""The connection to a Ray cluster: never without a token, and never for longer than a limit."""

from __future__ import annotations

import logging
import os
import stat
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from streamer.config.schema import FleetSettings
from streamer.errors import ConfigError, FleetError, ModelError

CONNECT_S = 30.0
"""Ray itself may try for minutes"""
PROBE_S = 5.0
NAMESPACE = "streamer"


class Head(NamedTuple):
    """What the head of a cluster answers to a call."""

    refused: bool
    """the call's token, or a call without one"""
    version: str
    """of Ray; empty where the call was refused"""


def require_ray() -> None:
    """Raises ModelError where Ray is not installed."""
    if find_spec("ray") is None or find_spec("grpc") is None:
        raise ModelError("fleet: Ray is not installed: pip install 'streamer[ray]'")


def read_token(path: Path) -> str:
    """The token of a file that only its owner can read. Raises ConfigError.

    Whoever has the token may run programs on every machine of the cluster.
    """
    try:
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(4096).strip()
    except OSError as error:
        raise ConfigError(f"fleet.token_file: {path}: {error.strerror}") from None
    except ValueError:
        raise ConfigError(f"fleet.token_file: {path}: a token is ASCII text") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"fleet.token_file: {path}: others may read it ({stat.S_IMODE(mode):04o}): chmod 600 {path}"
        )
    if not token or any(character.isspace() for character in token):
        raise ConfigError(f"fleet.token_file: {path}: a token is one word of text")
    return token


def check(fleet: FleetSettings) -> None:
    """Try whether the Ray at the address takes the token, and nothing without it.

    Raises ConfigError where it takes calls without a token, does not take this one, or has another version
    than this machine; FleetError where it cannot be reached; ModelError where Ray is not installed.
    """
    require_ray()
    token = read_token(fleet.token_file)
    if not _ask(fleet.address, None).refused:
        raise ConfigError(
            f"fleet.address: the Ray at {fleet.address} takes calls without a token: anyone in reach can"
            " run programs there; start it with RAY_AUTH_MODE=token"
        )
    head = _ask(fleet.address, token)
    if head.refused:
        raise ConfigError(
            f"fleet.token_file: the Ray at {fleet.address} does not take the token of {fleet.token_file}"
        )
    if head.version != version():
        raise ConfigError(
            f"fleet.address: Ray is {head.version} at {fleet.address} and {version()} here:"
            " install the same on all machines"
        )


def connect(fleet: FleetSettings) -> None:
    """Make this process a driver of the cluster; it ends when Ray does. Raises as `check` does."""
    require_ray()
    # Ray reads these when it is imported.
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(fleet.token_file.absolute()),
        "RAY_USAGE_STATS_ENABLED": "0",
        # What matters of it comes back as an error, which is logged in words of ours.
        "RAY_BACKEND_LOG_LEVEL": "fatal",
    }
    os.environ.pop("RAY_AUTH_TOKEN", None)
    check(fleet)
    import ray  # noqa: PLC0415

    failures: list[Exception] = []

    def connecting() -> None:
        try:
            ray.init(
                address=fleet.address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray's errors have no class of their own
            failures.append(error)

    thread = threading.Thread(target=connecting, name="ray connect", daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if thread.is_alive() or failures:
        cause = first_line(failures[0]) if failures else "no answer"
        raise FleetError(
            f"fleet.address: {fleet.address} is there, but this machine is no node of it ({cause}):"
            f" ray start --address={fleet.address}"
        )


class Machines(NamedTuple):
    """What a cluster has, and what of it is free."""

    alive: int
    gone: int
    cpus: float
    gpus: float
    free_cpus: float
    free_gpus: float

    def __str__(self) -> str:
        gone = f", {self.gone} gone" if self.gone else ""
        return (
            f"{self.alive} machines{gone}; free: {self.free_cpus:g} of {self.cpus:g} CPUs,"
            f" {self.free_gpus:g} of {self.gpus:g} GPUs"
        )


def machines() -> Machines:
    """Of the cluster that this process is connected to."""
    import ray  # noqa: PLC0415

    alive = [node["Alive"] for node in ray.nodes()]  # type: ignore[no-untyped-call]
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return Machines(
        sum(alive),
        len(alive) - sum(alive),
        resources.get("CPU", 0),
        resources.get("GPU", 0),
        free.get("CPU", 0),
        free.get("GPU", 0),
    )


def version() -> str:
    """Of Ray, here."""
    import ray  # noqa: PLC0415

    return str(ray.__version__)


def first_line(error: BaseException | None) -> str:
    """Ray's errors are pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _ask(address: str, token: str | None) -> Head:
    """Ask whether the head is alive, which a Ray without tokens answers to anyone. Raises FleetError."""
    import grpc  # noqa: PLC0415  # comes with Ray
    from ray.core.generated import gcs_service_pb2  # noqa: PLC0415

    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    # A proxy of the environment is for the web, not for machines of one room.
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            answer = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(
                b"", timeout=PROBE_S, metadata=metadata
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return Head(True, "")
            what = {
                grpc.StatusCode.UNAVAILABLE: "cannot be reached",
                grpc.StatusCode.DEADLINE_EXCEEDED: f"does not answer within {PROBE_S:g} s",
            }.get(error.code(), "is something else than Ray's head")
            raise FleetError(f"fleet.address: {address} {what}") from None
    reply: Any = gcs_service_pb2
    return Head(False, str(reply.CheckAliveReply.FromString(answer).ray_version))
