"""The connection to a Ray cluster: never without a token, and never for longer than a limit."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from streamer.config.schema import FleetSettings, FleetTlsSettings
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
        token = _read("token_file", path, is_secret=True).decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigError(f"fleet.token_file: {path}: a token is ASCII text") from None
    if not token or any(character.isspace() for character in token):
        raise ConfigError(f"fleet.token_file: {path}: a token is one word of text")
    return token


def _read(key: str, path: Path, *, is_secret: bool = False) -> bytes:
    """At most 64 KiB of a file that the configuration names. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(1 << 16)
    except OSError as error:
        raise ConfigError(f"fleet.{key}: {path}: {error.strerror}") from None
    if is_secret and mode & 0o077:
        raise ConfigError(f"fleet.{key}: {path}: others may read it ({mode:04o}): chmod 600 {path}")
    return content


def check(fleet: FleetSettings) -> None:
    """Try whether the Ray at the address takes the token, and nothing without it.

    Raises ConfigError where it takes calls without a token, does not take this one, or has another version
    than this machine; FleetError where it cannot be reached; ModelError where Ray is not installed.
    """
    require_ray()
    token = read_token(fleet.token_file)
    if not ask(fleet, None).refused:
        raise ConfigError(
            f"fleet.address: the Ray at {fleet.address} takes calls without a token: anyone in reach can"
            " run programs there; start it with RAY_AUTH_MODE=token"
        )
    head = ask(fleet, token)
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
        **tls_environment(fleet.tls),
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


def tls_environment(tls: FleetTlsSettings | None) -> dict[str, str]:
    """What Ray reads of TLS."""
    if tls is None:
        return {"RAY_USE_TLS": "0"}
    return {
        "RAY_USE_TLS": "1",
        "RAY_TLS_CA_CERT": str(tls.ca_file.absolute()),
        "RAY_TLS_SERVER_CERT": str(tls.cert_file.absolute()),
        "RAY_TLS_SERVER_KEY": str(tls.key_file.absolute()),
    }


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


def ask(fleet: FleetSettings, token: str | None) -> Head:
    """Ask whether the head is alive, which a Ray without tokens answers to anyone.

    Raises ConfigError for certificates that cannot be read, FleetError.
    """
    import grpc  # noqa: PLC0415  # comes with Ray
    from ray.core.generated import gcs_service_pb2  # noqa: PLC0415

    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with _channel(fleet) as channel:
        try:
            answer = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(
                b"", timeout=PROBE_S, metadata=metadata
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return Head(True, "")
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                what = _why_unavailable(fleet)
            elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                what = f"does not answer within {PROBE_S:g} s"
            else:
                what = "is something else than Ray's head"
            raise FleetError(f"fleet.address: {fleet.address} {what}") from None
    reply: Any = gcs_service_pb2
    return Head(False, str(reply.CheckAliveReply.FromString(answer).ray_version))


def _channel(fleet: FleetSettings) -> Any:
    import grpc  # noqa: PLC0415  # comes with Ray

    # A proxy of the environment is for the web, not for machines of one room.
    options = (("grpc.enable_http_proxy", 0),)
    if fleet.tls is None:
        return grpc.insecure_channel(fleet.address, options=options)
    credentials = grpc.ssl_channel_credentials(
        _read("tls.ca_file", fleet.tls.ca_file),
        _read("tls.key_file", fleet.tls.key_file, is_secret=True),
        _read("tls.cert_file", fleet.tls.cert_file),
    )
    return grpc.secure_channel(fleet.address, credentials, options=options)


def _why_unavailable(fleet: FleetSettings) -> str:
    """A clause for people."""
    host, port = fleet.address.rsplit(":", 1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, int(port)), PROBE_S) as connection:
            try:
                context.wrap_socket(connection).close()
            except OSError:
                return "cannot be reached" if fleet.tls is None else "has no TLS: set RAY_USE_TLS=1 there"
    except OSError:
        return "cannot be reached"
    if fleet.tls is None:
        return "has TLS: set fleet.tls"
    return (
        "and this machine do not trust each other: both certificates must be signed by fleet.tls.ca_file,"
        f" and that of the head name {host}"
    )
