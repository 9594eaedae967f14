"""Windows are scored by a Ray cluster, a real one, whose deaths cost windows and nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.config.schema import FleetSettings, ModelSettings
from streamer.core.backoff import Backoff
from streamer.data.synthesis import write_wav
from streamer.errors import ConfigError, FleetError, InferenceError
from streamer.inference.engines import open_engine
from streamer.inference.process.child import Limits
from streamer.inference.process.fleet import FleetWorker
from streamer.inference.ray import cluster as client
from streamer.metrics import Metrics
from streamer.types import Scores, Window
from tests.inference import models
from tests.inference.engines import LABELS
from tools.cluster import Cluster, certificates, cluster
from tools.daemon import Daemon

pytestmark = pytest.mark.slow

LIMITS = Limits(load_s=120, batch_s=30, restart=Backoff(first_s=0.5, longest_s=2, at_once=True))
QUICK = "tests.inference.engines:Quick"
HALF_FLOAT = 5e-4
"""by which a score may change on the way: float16"""
DEADLINE_S = 120.0
Start = Callable[..., Awaitable[FleetWorker]]


@pytest.fixture(scope="module")
def ray() -> Iterator[Cluster]:
    with cluster() as one:
        yield one


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts workers of a fleet; they end with the test."""
    async with AsyncExitStack() as stack:

        async def started(
            fleet: FleetSettings, model: ModelSettings | None = None, **options: Any
        ) -> FleetWorker:
            worker = FleetWorker(fleet, model or ModelSettings(), Metrics(), limits=LIMITS, **options)
            stack.push_async_callback(worker.close)
            async with asyncio.timeout(DEADLINE_S):
                await worker.start()
            return worker

        yield started


@pytest.fixture
def daemon(ray: Cluster, tmp_path: Path) -> Iterator[Daemon]:
    """`streamer run`, with a small model, whose windows the cluster scores."""
    file = configuration(
        ray,
        tmp_path,
        "sound 1",
        model={"path": str(models.directory(tmp_path / "model")), "engine": "onnx"},
        sources={"room": {"demo": True, "loop": True}},
        windows={"hop_s": 0.5, "skip_quiet": False},
        mqtt={"enabled": False},
        web={"enabled": False},
        state_dir=str(tmp_path / "state"),
    )
    with Daemon(file, tmp_path / "state") as daemon:
        yield daemon


def window(index: int = 0, value: float = 0.5, source_id: str = "room") -> Window:
    return Window(source_id, index, np.full(8000, value, np.float32), 8000, 10.0 + index, 11.0 + index)


def fleet_command(
    ray: Cluster, directory: Path, command: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """`streamer fleet` of a daemon of its own."""
    return run_streamer("fleet", command, "--config", str(configuration(ray, directory)), *options)


def configuration(ray: Cluster, directory: Path, label: str = "Dog", **sections: object) -> Path:
    """Of a daemon with one sound, whose windows the cluster scores."""
    file = directory / "fleet.yaml"
    fleet = {"address": ray.address, "token_file": str(ray.token_file)}
    sounds = {"sounds": {"one": {"labels": [label]}}, "sources": {"room": {"demo": True}}}
    file.write_text(json.dumps(sounds | {"fleet": fleet} | sections))
    return file


def run_streamer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamer", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            if condition():
                return
            await asyncio.sleep(0.2)


async def until_scored(worker: FleetWorker) -> Scores:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            outcome = await worker.outcome(window())
            if isinstance(outcome, Scores):
                return outcome
            await asyncio.sleep(0.2)


async def test_scores_are_those_of_a_local_engine(ray: Cluster, start: Start, tmp_path: Path) -> None:
    """For the labels in use, in the model's order, with frames: the same where float32 travels both ways."""
    settings = ModelSettings(
        path=str(models.directory(tmp_path / "model")), engine="onnx", dtype="float32", threads=1
    )
    local = open_engine(settings)
    wanted = [local.labels[5], local.labels[1]]
    worker = await start(ray.settings(payload="float32", batch=2), settings, wanted=wanted)
    assert worker.about is not None and worker.about.labels == (local.labels[1], local.labels[5])
    windows = [models.window(i, seconds=seconds) for i, seconds in enumerate((1.0, 1.0, 0.7, 1.0, 1.0))]
    scores = await asyncio.gather(*(worker.score(one) for one in windows))
    for ours, theirs in zip(scores, local.score(windows), strict=True):
        assert (ours.source_id, ours.index, ours.start, ours.end, ours.frame_s) == (
            theirs.source_id,
            theirs.index,
            theirs.start,
            theirs.end,
            theirs.frame_s,
        )
        assert ours.frames is not None and theirs.frames is not None
        np.testing.assert_allclose(ours.clip, theirs.clip[[1, 5]], atol=1e-6)
        np.testing.assert_allclose(ours.frames, theirs.frames[:, [1, 5]], atol=1e-6)
    assert worker._metrics.batch_windows == 5


async def test_a_model_that_cannot_be_loaded_there(ray: Cluster, start: Start) -> None:
    """The reason of the replicas is that of the daemon's end."""
    with pytest.raises(client.ModelError, match=r"replicas do not start.*no such directory"):
        await start(ray.settings(), engine="tests.inference.engines:Missing")


async def test_a_replica_is_killed_under_load(ray: Cluster, start: Start) -> None:
    """Each window is answered, with scores of its own: what the replica had is given to the other one."""
    worker = await start(ray.settings(replicas={"min": 2, "max": 2}, batch=4, deadline_s=30), engine=QUICK)
    before = {process.pid for process in ray.replicas()}

    async def source(name: int) -> list[Scores | InferenceError]:
        outcomes = []
        for index in range(40):
            outcomes.append(await worker.outcome(window(index, name / 16, f"source {name}")))
            await asyncio.sleep(0.05)
        return outcomes

    async def killed() -> None:
        await asyncio.sleep(1)
        ray.replicas()[0].kill()

    *outcomes, _ = await asyncio.gather(*(source(name) for name in range(12)), killed())
    for name, answered in enumerate(outcomes):
        assert [one.index for one in answered if isinstance(one, Scores)] == list(range(40)), answered
        assert all(abs(one.clip[0] - name / 16) < HALF_FLOAT for one in answered if isinstance(one, Scores))
    assert worker._metrics.worker_restarts == 0
    await until(lambda: len(ray.replicas()) == len(before))
    assert {process.pid for process in ray.replicas()} != before


def test_an_archive(ray: Cluster, tmp_path: Path) -> None:
    """`streamer detect FOLDER --on ray` leaves the bytes that it leaves here."""
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(0, 0.1 * (seed + 1), 4 * models.RATE)
        write_wav(recordings / f"{seed}.wav", noise.astype(np.float32), models.RATE)
    model = {"path": str(models.directory(tmp_path / "model")), "engine": "onnx", "dtype": "float32"}
    file = configuration(
        ray,
        tmp_path,
        "sound 1",
        model=model | {"threads": 1, "max_batch": 4},
        detection={"on": 0.02},
        windows={"hop_s": 0.25, "skip_quiet": False},
    )
    for out, on in (("here", ()), ("there", ("--on", f"ray:{ray.address}"))):
        done = run_streamer(
            "detect", str(recordings), "--config", str(file), "--out", str(tmp_path / out), *on
        )
        assert done.returncode == 0, done.stderr
    here, there = (sorted((tmp_path / out / "events").iterdir()) for out in ("here", "there"))
    assert (
        [path.name for path in here] == [path.name for path in there] == [f"{i}.wav.jsonl" for i in range(3)]
    )
    assert [path.read_bytes() for path in here] == [path.read_bytes() for path in there]
    assert all(path.read_bytes() for path in here)
    manifests = [(tmp_path / out / "manifest.jsonl").read_text().splitlines()[0] for out in ("here", "there")]
    assert manifests[0] == manifests[1]


async def test_a_window_that_is_not_finite(ray: Cluster, start: Start) -> None:
    """It fails alone, whichever way samples travel; the others of its batch are scored."""
    worker = await start(ray.settings(), engine=QUICK)
    bad, good = await asyncio.gather(worker.outcome(window(0, np.nan)), worker.outcome(window(1)))
    assert isinstance(bad, InferenceError) and "not finite" in str(bad)
    assert isinstance(good, Scores)


async def test_the_commands(ray: Cluster, start: Start, tmp_path: Path) -> None:
    """`check` tries the cluster, `status` says what runs there, `drain` ends it; a daemon starts it again."""
    worker = await start(ray.settings(deadline_s=2), engine=QUICK)
    checked, status, drained = [
        await asyncio.to_thread(fleet_command, ray, tmp_path, *arguments)
        for arguments in (("check",), ("status",), ("drain", "--all"))
    ]
    assert "takes this token, and no call without one; Ray 2." in checked.stdout, checked.stderr
    own, *others = status.stdout.splitlines()[1:]
    assert "does not run" in own
    assert any("replicas running; not of this configuration" in line for line in others), others
    assert drained.stdout.count("streamer-") == len(others) > 0
    assert isinstance(await worker.outcome(window()), InferenceError)
    await until_scored(worker)
    assert worker._metrics.worker_restarts == 1


async def test_a_wrong_token(ray: Cluster, start: Start, tmp_path: Path) -> None:
    """Is refused at once, with the exit code of a wrong configuration."""
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("0123456789abcdef")
    with pytest.raises(ConfigError, match="does not take the token") as refusal:
        await start(ray.settings(token_file=str(file)), engine=QUICK)
    assert refusal.value.exit_code == 78


def test_a_cluster_without_token(tmp_path: Path) -> None:
    """Is refused: anyone who reaches it can run programs there."""
    with cluster(token=False) as one:
        checked = fleet_command(one, tmp_path, "check")
    assert checked.returncode == 78
    assert "takes calls without a token" in checked.stderr


def test_tls(tmp_path: Path) -> None:
    """With certificates on both sides; where they do not fit, or one side has none, it is said what to do."""
    with cluster(tls=True, whole=False) as one:
        client.check(one.settings())
        with pytest.raises(FleetError, match=r"has TLS: set fleet\.tls"):
            client.check(one.settings(tls=None))
        others = certificates(tmp_path)
        with pytest.raises(FleetError, match="do not trust each other"):
            client.check(one.settings(tls=others.model_dump(mode="json")))
        others.key_file.chmod(0o640)
        with pytest.raises(ConfigError, match=r"fleet\.tls\.key_file: .*others may read it \(0640\)"):
            client.check(one.settings(tls=others.model_dump(mode="json")))
        others.ca_file.unlink()
        with pytest.raises(ConfigError, match=r"fleet\.tls\.ca_file: .*No such file"):
            client.check(one.settings(tls=others.model_dump(mode="json")))


def test_a_head_without_tls(ray: Cluster, tmp_path: Path) -> None:
    """Is not taken for one that has it."""
    tls = certificates(tmp_path).model_dump(mode="json")
    with pytest.raises(FleetError, match="has no TLS: set RAY_USE_TLS=1 there"):
        client.check(ray.settings(tls=tls))


async def test_the_raylet_is_killed(ray: Cluster, start: Start, daemon: Daemon) -> None:
    """Only the driver's process ends with it. Windows are skipped, or scored here where that is asked for.

    A whole `streamer run` stays the process that it was, listens on, and has its windows scored again.
    """
    alone = await start(ray.settings(deadline_s=1), engine=QUICK)
    other = await start(ray.settings(deadline_s=1, fallback="local"), engine=QUICK)
    assert isinstance(await other.outcome(window()), Scores)
    before = await daemon.until(lambda now: bool(now["scored"]))
    ray.raylet().kill()
    skipped = 0
    async with asyncio.timeout(DEADLINE_S):
        while skipped < 3 or "fleet is gone" not in other.describe():
            skipped += isinstance(await alone.outcome(window()), InferenceError)
            await other.outcome(window())
    ray.kill()
    assert (await until_scored(other)).clip.shape == (len(LABELS),)
    assert isinstance(await alone.outcome(window()), InferenceError)
    down = await daemon.until(lambda now: now["skipped"] >= before["skipped"] + 2)
    assert down["blocks"] > before["blocks"]
    ray.start()
    assert (await until_scored(alone)).clip[0] == pytest.approx(0.5, abs=HALF_FLOAT)
    assert alone._metrics.worker_restarts >= 1
    await until(lambda: "fleet is gone" not in other.describe())
    assert isinstance(await other.outcome(window()), Scores)
    again = await daemon.until(lambda now: now["scored"] > down["scored"])
    assert again["pid"] == before["pid"]
    assert again["blocks"] > down["blocks"]


def test_an_address_where_nothing_is(tmp_path: Path) -> None:
    """Is told at once: Ray alone would try for minutes."""
    one = Cluster()
    began = time.monotonic()
    with pytest.raises(FleetError, match="cannot be reached") as failure:
        client.check(one.settings())
    assert time.monotonic() - began < client.PROBE_S + 1
    assert failure.value.exit_code == 75
