"""A real Ray cluster of this machine, with a directory and ports of its own: for tests and measurements."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import ray.util

from streamer.config.schema import FleetSettings, FleetTlsSettings
from streamer.errors import FleetError
from streamer.inference.ray.cluster import ask, tls_environment

START_S = 60.0
ATTEMPTS = 5
"""Ray gives up on its own start where it needs more than 15 s, as on a machine that is busy"""
RAY = Path(sys.executable).with_name("ray")


class Cluster:
    """It may be killed, in whole or in part, and started again at the same address."""

    def __init__(
        self,
        *,
        token: bool = True,
        host: str = "127.0.0.1",
        cpus: int = 16,
        within: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        tls: bool = False,
    ) -> None:
        """`within` is a command that runs the rest of its arguments somewhere, as in a network namespace."""
        self.port = free_port()
        self.host = host
        self._cpus = cpus
        self._within = within
        self.directory = Path(tempfile.mkdtemp(prefix="ray-"))  # sockets below it: the path has to be short
        self.token_file = self.directory / "token"
        self.token_file.touch(0o600)
        self.token_file.write_text(secrets.token_hex(16))
        self._tls = certificates(self.directory) if tls else None
        self._environment = {
            key: value for key, value in os.environ.items() if not key.startswith("RAY_")
        } | {
            "RAY_AUTH_MODE": "token" if token else "disabled",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "PYTHONPATH": str(Path.cwd()),
            **tls_environment(self._tls),
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def settings(self, **fields: object) -> FleetSettings:
        tls = None if self._tls is None else self._tls.model_dump(mode="json")
        return FleetSettings.model_validate(
            {"address": self.address, "token_file": str(self.token_file), "tls": tls} | fields, strict=False
        )

    def start(self, *, whole: bool = True, join: Cluster | None = None) -> None:
        """Wait until all of it runs, or only until the head answers. Raises TimeoutError.

        With `join` this is no head, but one more machine of that cluster.
        """
        head = (
            *("--head", "--include-dashboard=false", "--disable-usage-stats", f"--port={self.port}"),
            *(f"--temp-dir={self.directory / 'tmp'}", f"--ray-client-server-port={free_port()}"),
        )
        for _ in range(ATTEMPTS):
            with (self.directory / "start.log").open("w") as log:
                process = subprocess.Popen(
                    [
                        *(*self._within, str(RAY), "start", "--block", f"--num-cpus={self._cpus}"),
                        *(f"--node-ip-address={self.host}", "--object-store-memory=100000000"),
                        *(head if join is None else (f"--address={join.address}",)),
                    ],
                    env=self._environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._process, until = process, time.monotonic() + START_S
            while process.poll() is None and time.monotonic() < until:
                if "Ray runtime started" in (self.directory / "start.log").read_text():
                    return
                with suppress(FleetError):
                    if not whole and ask(self.settings(), None):
                        return
                time.sleep(0.1)
            self.kill()
        raise TimeoutError((self.directory / "start.log").read_text())

    def processes(self, what: Callable[[str], bool] = lambda _: True) -> list[psutil.Process]:
        """Those of it whose command line is such."""
        if self._process is None:
            return []
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if what(" ".join(process.cmdline())):
                        found.append(process)
        return found

    def replicas(self) -> list[psutil.Process]:
        return self.processes(lambda line: line.startswith("ray::ServeReplica"))

    def raylet(self) -> psutil.Process:
        (found,) = self.processes(lambda line: "/raylet/raylet " in line)
        return found

    def head(self) -> psutil.Process:
        """The process that knows the cluster's state."""
        (found,) = self.processes(lambda line: "/gcs/gcs_server " in line)
        return found

    def kill(self) -> None:
        """All of it, at once."""
        if self._process is None:
            return
        doomed = self.processes()
        self._process.kill()
        self._process.wait()
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=10)
        self._process = None


def certificates(folder: Path) -> FleetTlsSettings:
    """A new authority, and a certificate of it for this machine. Needs openssl."""
    extensions = folder / "names"
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]  # Ray takes it for 127.0.0.1
    extensions.write_text(f"subjectAltName=IP:127.0.0.1,IP:{address}")
    key, days = ("-newkey", "rsa:2048", "-nodes"), ("-days", "30")
    sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", extensions.name)
    for command in (
        ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", *days, "-subj", "/CN=test CA"),
        ("req", *key, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=ray"),
        ("x509", "-req", "-in", "request.pem", *sign, *days, "-out", "certificate.pem"),
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    (folder / "key.pem").chmod(0o600)
    return FleetTlsSettings(
        ca_file=folder / "ca.pem", cert_file=folder / "certificate.pem", key_file=folder / "key.pem"
    )


def free_port() -> int:
    """One that nothing listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster(*, token: bool = True, tls: bool = False, whole: bool | None = None) -> Iterator[Cluster]:
    """One that runs, for the length of the block. Of one without a token the head is enough."""
    one = Cluster(token=token, tls=tls)
    try:
        one.start(whole=token if whole is None else whole)
        yield one
    finally:
        one.kill()
        shutil.rmtree(one.directory, ignore_errors=True)
