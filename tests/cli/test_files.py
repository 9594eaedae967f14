"""`detect` and `tag` on files that are damaged, oddly named, long, or many."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.capture.stream import read_file
from streamer.data.synthesis import write_demo, write_wav

pytestmark = pytest.mark.slow

QUICK = """
sources: {demo: {demo: true}}
model: {dtype: float32, threads: 1}
sounds:
  smoke_alarm: {labels: ["Smoke detector, smoke alarm"], on: 0.6, merge_gap_s: 3}
mqtt: {enabled: false}
"""
COMMAND = [sys.executable, "-c", "from streamer.cli import main; main()"]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 14 s of the demo recording, at 16 kHz: a smoke alarm from 3.6 s on."""
    folder = tmp_path_factory.mktemp("demo")
    write_wav(folder / "alarm.wav", read_file(write_demo(folder))[0][: 14 * 16000], 16000)
    return folder / "alarm.wav"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(QUICK, encoding="utf-8")
    return path


def streamer(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [*COMMAND, *(os.fsencode(one) if isinstance(one, Path) else str(one) for one in arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=300, cwd=folder)


def chained_ogg(path: Path, demo: Path) -> None:
    """Two Ogg streams, one after the other, of other channels: FFmpeg does not decode past the first."""
    samples, _ = read_file(demo)
    parts = []
    for layout in ("mono", "stereo"):
        with av.open(str(path), "w", format="ogg") as output:
            stream = output.add_stream("libopus", rate=48000, layout=layout)  # type: ignore[call-overload]  # PyAV's
            frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
            frame.sample_rate = 16000
            resampler = av.AudioResampler(stream.format.name, layout, 48000)
            fifo = av.AudioFifo()
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                piece.pts = None
                fifo.write(piece)
            while (part := fifo.read(stream.codec_context.frame_size)) is not None:
                output.mux(stream.encode(part))
            output.mux(stream.encode(None))
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_what_was_heard_before_a_damage_is_kept(
    tmp_path: Path, demo: Path, config: Path, format_: str
) -> None:
    """The events up to there, then the line that says up to when it could be read, and exit code 66."""
    chained = tmp_path / "chained.ogg"
    chained_ogg(chained, demo)
    done = streamer("detect", chained, "-c", config, "-f", format_)
    assert done.returncode == 66, done.stderr.decode()
    assert b"smoke_alarm" in done.stdout
    (line,) = [line for line in done.stderr.decode().splitlines() if "read up to" in line]
    assert 13.5 < float(line.split("up to ")[1].removesuffix(" s")) < 14.5


def test_an_interrupt_leaves_the_result_of_before(tmp_path: Path, demo: Path, config: Path) -> None:
    """`--out` is written whole or not at all."""
    out = tmp_path / "labels.txt"
    out.write_text("old\n", encoding="utf-8")
    # As users start it: Ctrl-C counts also where whoever started this process ignores it.
    command = [sys.executable, "-m", "streamer", "detect", *[str(demo)] * 200]
    command += ["-c", str(config), "-f", "audacity", "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    draft = tmp_path / ".labels.txt.part"
    while not draft.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert out.read_text(encoding="utf-8") == "old\n"
    assert not draft.exists()


def test_a_bad_file_among_good_ones_is_left_out_of_the_result(
    tmp_path: Path, demo: Path, config: Path
) -> None:
    """The result has what was heard in the others."""
    out = tmp_path / "out.csv"
    done = streamer("detect", tmp_path / "none.wav", demo, "-c", config, "-f", "csv", "-o", out)
    assert done.returncode == 66
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert {row["sound"] for row in rows} == {"smoke_alarm"}


def test_names_of_any_kind(tmp_path: Path, demo: Path, config: Path) -> None:
    """A name that is no UTF-8, or has terminal commands in it, is escaped; each row says its file."""
    names = [b"Andr\xe9.wav", "колокол.wav".encode(), b"\x1b[31mred.wav"]
    for name in names:
        (tmp_path / os.fsdecode(name)).symlink_to(demo)
    paths = [tmp_path / os.fsdecode(name) for name in names]
    shown = [f"{tmp_path}/{name}" for name in ("Andr\\udce9.wav", "колокол.wav", "\\x1b[31mred.wav")]
    for format_ in ("csv",):
        done = streamer("detect", *paths, "-c", config, "-f", format_)
        assert done.returncode == 0, done.stderr.decode()
        text = done.stdout.decode()
        assert "\x1b" not in text
        assert all(name in text for name in shown), text
    done = streamer("detect", *paths, "-c", config, "-f", "jsonl", "--relative")
    assert {json.loads(line)["file"] for line in done.stdout.decode().splitlines()} == set(shown)


def test_a_long_file_is_tagged_in_constant_memory(tmp_path: Path) -> None:
    """Ten minutes at 48 kHz, 115 MB of samples, take not much more memory than one does."""

    def peak_mb(seconds: int) -> float:
        path = tmp_path / f"{seconds}.wav"
        samples = np.random.default_rng(1).uniform(-0.01, 0.01, seconds * 48000).astype(np.float32)
        write_wav(path, samples, 48000)
        del samples
        code = (
            "import resource, sys; sys.path.insert(0, '.')\n"
            "from tests.cli.test_files import Zeros\n"
            "from pathlib import Path\n"
            "from streamer.run.offline import tag\n"
            "tag(Path(sys.argv[1]), Zeros())\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=300
        )
        return int(done.stdout) / 1024

    assert peak_mb(600) - peak_mb(60) < 20


class Zeros:
    """Scores nothing, as a model of two labels would."""

    labels = ("a", "b")
    window_s = 10.0
    name = "zeros"

    def score(self, windows: list[object]) -> list[object]:
        class Scores:
            clip = np.zeros(2, np.float32)

        return [Scores() for _ in windows]
