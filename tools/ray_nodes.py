"""A Ray cluster of two machines on one: head and worker in a network namespace each, with a cable between.

    python -m tools.ray_nodes

Needs root and iproute2. The head runs no replica, so each window crosses the cable, which is cut for a while.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.config.schema import FleetSettings
from tools.cluster import Cluster
from tools.fleet_bench import BATCH, Tally, ask, closed_loop, started

NAMESPACES = ("streamer-head", "streamer-worker")
ADDRESSES = ("10.231.77.1", "10.231.77.2")
LINKS = ("ray-a", "ray-b")
CUT_S = 20.0
BACK_S = 180.0
"""in which windows must be scored again after the cable is back"""
INSIDE = "--inside"


def ip(*arguments: str, namespace: str | None = None) -> None:
    """Raises CalledProcessError."""
    within = [] if namespace is None else ["-n", namespace]
    subprocess.run(["ip", *within, *arguments], check=True)


@contextmanager
def machines() -> Iterator[None]:
    """Two network namespaces with a cable between them, for the length of the block."""
    try:
        for namespace in NAMESPACES:
            ip("netns", "add", namespace)
        ip("link", "add", LINKS[0], "netns", NAMESPACES[0], "type", "veth", "peer", LINKS[1])
        ip("link", "set", LINKS[1], "netns", NAMESPACES[1])
        for namespace, address, link in zip(NAMESPACES, ADDRESSES, LINKS, strict=True):
            ip("addr", "add", f"{address}/24", "dev", link, namespace=namespace)
            for name in (link, "lo"):
                ip("link", "set", name, "up", namespace=namespace)
        yield
    finally:
        for namespace in NAMESPACES:
            subprocess.run(["ip", "netns", "del", namespace], check=False)


def within(namespace: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", namespace)


def main() -> None:
    if sys.argv[1:2] == [INSIDE]:
        asyncio.run(inside(FleetSettings(address=sys.argv[2], token_file=Path(sys.argv[3]), deadline_s=2)))
        return
    with machines():
        head = Cluster(host=ADDRESSES[0], cpus=0, within=within(NAMESPACES[0]))
        worker = Cluster(
            host=ADDRESSES[1],
            cpus=4,
            within=within(NAMESPACES[1]),
            environment={"RAY_AUTH_TOKEN_PATH": str(head.token_file)},
        )
        try:
            head.start()
            worker.start(join=head)
            print(f"load {os.getloadavg()[0]:.0f}; a head without CPUs and a worker with four", flush=True)
            command = [sys.executable, "-m", "tools.ray_nodes", INSIDE, head.address, str(head.token_file)]
            subprocess.run([*within(NAMESPACES[0]), *command], check=True)
            print(
                f"replicas in the worker's namespace: {len(worker.replicas())}, in the head's: "
                f"{len(head.replicas())}"
            )
        finally:
            for one in (worker, head):
                one.kill()
                shutil.rmtree(one.directory, ignore_errors=True)


async def inside(settings: FleetSettings) -> None:
    """On the head's machine: score, cut the cable, and score again."""
    worker = await started(settings, 3)
    tally, seconds = await closed_loop(worker, 640, 3 * BATCH)
    print(f"  {tally}: {640 / seconds:.0f} windows/s over the cable", flush=True)
    tally, began = Tally(), time.monotonic()
    ip("link", "set", LINKS[0], "down", namespace=NAMESPACES[0])
    while time.monotonic() - began < CUT_S:
        await ask(worker, tally, len(tally.seconds))
        await asyncio.sleep(0.5)
    print(f"  cut for {CUT_S:g} s: {tally}", flush=True)
    ip("link", "set", LINKS[0], "up", namespace=NAMESPACES[0])
    began, tally = time.monotonic(), Tally()
    while not tally.scored and time.monotonic() - began < BACK_S:
        await ask(worker, tally, 0)
    back_s = time.monotonic() - began
    again, _ = await closed_loop(worker, 64, BATCH)
    print(f"  cable back: scores again after {back_s:.1f} s, then {again}", flush=True)
    await worker.close()


if __name__ == "__main__":
    main()
