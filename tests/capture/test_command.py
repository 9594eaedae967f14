"""A program's output is heard, and its end is told with its reason."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from streamer.capture.command import Command
from streamer.errors import SourceError
from streamer.types import AudioBlock

DEADLINE_S = 60


async def heard(command: Command) -> tuple[list[AudioBlock], str]:
    """What a program is heard to say until it ends, and the error that its end is."""
    blocks: list[AudioBlock] = []
    async with asyncio.timeout(DEADLINE_S):
        await command.open()
        try:
            with pytest.raises(SourceError) as failure:
                await command.run(blocks.append)
        finally:
            await command.close()
    return blocks, str(failure.value)


@pytest.mark.parametrize(
    ("sample_format", "dtype", "full_scale"),
    [("s16le", "<i2", 2**15), ("s32le", "<i4", 2**31), ("f32le", "<f4", 1)],
)
async def test_formats(tmp_path: Path, sample_format: str, dtype: str, full_scale: int) -> None:
    """Each sample format arrives at its value, in blocks of 100 ms, the last one shorter."""
    wanted = (np.arange(-1024, 1024) / 1024).astype(np.float32)
    (tmp_path / "pcm").write_bytes((wanted.astype(np.float64) * full_scale).astype(dtype).tobytes())
    source = Command(["cat", str(tmp_path / "pcm")], sample_rate=8000, sample_format=sample_format)  # type: ignore[arg-type]  # parametrize knows no literals

    blocks, _ = await heard(source)

    assert [len(block.samples) for block in blocks] == [800, 800, 448]
    assert [block.discontinuity for block in blocks] == [True, False, False]
    assert np.array_equal(wanted, np.concatenate([block.samples for block in blocks]))
    assert blocks[0].samples.dtype == np.float32
    assert abs(blocks[-1].captured_at - time.time()) < DEADLINE_S


@pytest.mark.parametrize(("channel", "wanted"), [(1, 0.5), (2, -0.25), ("mix", 0.125)])
async def test_channels(tmp_path: Path, channel: int, wanted: float) -> None:
    """One channel is taken out of interleaved ones, or their mean."""
    frames = np.tile(np.array([0.5, -0.25], "<f4"), 1000)
    (tmp_path / "pcm").write_bytes(frames.tobytes())
    source = Command(["cat", str(tmp_path / "pcm")], channels=2, sample_format="f32le", channel=channel)
    blocks, _ = await heard(source)
    samples = np.concatenate([block.samples for block in blocks])
    assert len(samples) == 1000
    assert set(samples) == {np.float32(wanted)}


async def test_a_torn_frame_is_dropped() -> None:
    """A program that ends in the middle of a frame does not tear the others."""
    blocks, _ = await heard(Command(["printf", "abcdefg"], channels=2))
    assert [len(block.samples) for block in blocks] == [1]


async def test_the_end_has_a_reason() -> None:
    """The error has the exit code and the last line that the program said on standard error."""
    script = "echo first >&2; printf 'no such camera\\r\\n\\n' >&2; exit 3"
    blocks, error = await heard(Command(["sh", "-c", script]))
    assert blocks == []
    assert error == "sh: it ended with exit code 3: no such camera"


async def test_a_signal_is_named() -> None:
    """A program that was killed is said to be."""
    _, error = await heard(Command(["sh", "-c", "kill -9 $$"]))
    assert error == "sh: it was ended by signal 9 (SIGKILL)"


async def test_much_on_standard_error_does_not_block() -> None:
    """A program that talks more than a pipe holds, without an end of line, is heard all the same."""
    script = "import sys; sys.stderr.write('x' * 1_000_000 + '\\nlast'); sys.stdout.buffer.write(bytes(3200))"
    blocks, error = await heard(Command([sys.executable, "-c", script]))
    assert sum(len(block.samples) for block in blocks) == 1600
    assert error.endswith("it ended with exit code 0: last")


async def test_a_program_that_is_not_there() -> None:
    """A missing program is one clear line."""
    with pytest.raises(SourceError, match=r"^no-such-program: no such program"):
        await Command(["no-such-program"]).open()


async def test_a_channel_that_is_not_there() -> None:
    """A channel beyond the last is an error before anything is started."""
    with pytest.raises(SourceError, match="no channel 3: it has 2"):
        await Command(["cat"], channels=2, channel=3).open()


def test_nothing_outlives_the_daemon() -> None:
    """A program that writes nothing, and its children, end when this process is killed."""
    code = """if True:
        import asyncio
        from streamer.capture.command import Command

        async def main():
            command = Command(["sh", "-c", "sleep 1000 & echo $! >&2; sleep 1000"])
            await command.open()
            while not command._tail:
                await asyncio.sleep(0.01)
            print(command._process.pid, command._tail.decode(), flush=True)
            await asyncio.sleep(1000)

        asyncio.run(main())
    """
    daemon = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    children = [psutil.Process(int(pid)) for pid in daemon.stdout.readline().split()]
    assert len(children) == 2
    daemon.kill()
    daemon.wait()
    assert psutil.wait_procs(children, timeout=DEADLINE_S)[1] == []


async def test_nothing_outlives_close(tmp_path: Path) -> None:
    """Children end with the program, even where they do not listen to SIGTERM."""
    script = (
        f"trap '' TERM; (trap '' TERM; echo $BASHPID > {tmp_path}/child; while :; do sleep 1; done) & "
        "while :; do head -c 3200 /dev/zero; sleep 0.1; done"
    )
    source = Command(["bash", "-c", script])
    written = asyncio.Event()
    await source.open()
    running = asyncio.create_task(source.run(lambda _: written.set()))
    async with asyncio.timeout(DEADLINE_S):
        await written.wait()
        child = int(await asyncio.to_thread(_text_of, tmp_path / "child"))
        running.cancel()
        await asyncio.wait([running])
        await source.close()
        await source.close()
        await asyncio.to_thread(_wait_for_the_end_of, child)
    assert running.cancelled()


def _text_of(path: Path) -> str:
    """What is written to a file, as soon as it is."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def _wait_for_the_end_of(pid: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":  # it ended, and waits for whoever adopted it
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} still runs")
