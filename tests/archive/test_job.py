"""A folder of recordings is heard once, whole, whatever happens on the way; the bytes are the same."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from streamer.archive import job
from streamer.archive.output import Output, Shard
from streamer.cli.files import Format, _rendering
from streamer.config.schema import Config
from streamer.data.synthesis import write_wav
from streamer.errors import InferenceError, InputError, OutputError, UsageError
from streamer.types import Scores, Window
from tests.cli.test_files import chained_ogg
from tests.disk import mounted
from tests.inference.engines import Quick

RATE = 8000
N_FILES = 12


def configured(**changes: object) -> Config:
    return Config.model_validate(
        {
            "sources": {"room": {"demo": True}},
            "sounds": {"speech": {"labels": ["Speech"]}},
            "windows": {"skip_quiet": False},
            "model": {"max_batch": 4},
            **changes,
        }
    )


CONFIG = configured()


class Counting(Quick):
    """Counts the windows that it scores, and fails after so many."""

    def __init__(self, lasts: float = float("inf")) -> None:
        super().__init__(CONFIG.model)
        self.lasts = lasts
        self.sizes: list[int] = []

    def score(self, windows: Sequence[Window]) -> list[Scores]:
        self.sizes.append(len(windows))
        if sum(self.sizes) > self.lasts:
            raise InferenceError("an illegal memory access was encountered")
        return super().score(windows)


class Silent:
    """Shows nothing."""

    def begin(self, n_files: int, n_bytes: int) -> None: ...

    def update(self, n_files: int, n_bytes: float, audio_s: float) -> None: ...


def tone(path: Path, seconds: float, onset: float, hertz: float = 440.0) -> None:
    """A recording with one loud second in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * RATE)) / RATE
    loud = (t >= onset) & (t < onset + 1)
    write_wav(path, (np.sin(2 * np.pi * hertz * t) * np.where(loud, 0.9, 0.01)).astype(np.float32), RATE)


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    for i in range(N_FILES):
        tone(folder / ("day" if i % 2 else "night") / f"{i}.wav", 3 + 0.7 * i, 1 + 0.3 * i)
    return folder


def detect(
    recordings: Path,
    out: Path,
    *,
    scorer: Quick | None = None,
    config: Config = CONFIG,
    resume: bool = False,
    shard: str = "0/1",
) -> job.Summary:
    """As the command does."""
    scorer = scorer or Counting()
    ending, render = _rendering(Format.JSONL, config)
    output = Output(out, Shard.parse(shard), ending)
    with output.working():
        with output.engine() as kind:
            settings = job.settings_of(config, scorer, job.as_chosen(config.model, kind).engine, ending, {})
            found = output.survey(recordings, settings, resume=resume)
        output.take_up()
        return job.run(recordings, output, config, scorer, found, render, Silent())


def tree(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in (out / "events").rglob("*")
        if path.is_file()
    }


def report(out: Path) -> dict[str, dict[str, object]]:
    """The lines of all reports by file; each file has one."""
    lines = [json.loads(line) for path in out.glob("report*") for line in path.read_text().splitlines()]
    by_file = {line["file"]: line for line in lines}
    assert len(by_file) == len(lines)
    return by_file


def test_whichever_way_it_ran(recordings: Path, tmp_path: Path) -> None:
    """At once, in three shards, in one shard after others, stopped and resumed five times: the same bytes."""
    summary = detect(recordings, tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    assert summary.results == {"done": N_FILES}
    assert len(whole) == N_FILES
    assert all(b'"phase":"start"' in content for content in whole.values())

    for shard in ("2/3", "0/3", "1/3"):
        detect(recordings, tmp_path / "shards", shard=shard)
    assert tree(tmp_path / "shards") == whole
    assert report(tmp_path / "shards") == report(tmp_path / "whole")

    detect(recordings, tmp_path / "mixed", shard="1/2")
    assert detect(recordings, tmp_path / "mixed").n_new < N_FILES
    assert tree(tmp_path / "mixed") == whole

    stops = 0
    while True:
        try:
            detect(recordings, tmp_path / "stopped", scorer=Counting(lasts=30), resume=True)
        except InferenceError:
            stops += 1
        else:
            break
    assert stops >= 3
    assert tree(tmp_path / "stopped") == whole
    for name in ("manifest.jsonl", "report.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_every_call_has_a_whole_batch(recordings: Path, tmp_path: Path) -> None:
    """The last bits of a score may depend on the size of its batch, so that does not depend on the files."""
    scorer = Counting()
    detect(recordings, tmp_path / "out", scorer=scorer)
    question, *batches = scorer.sizes
    assert question == 1
    assert set(batches) == {CONFIG.model.max_batch}
    n_windows = sum(int(3 + 0.7 * i) for i in range(N_FILES))
    assert len(batches) == -(-n_windows // CONFIG.model.max_batch)


def test_nothing_is_done_twice(recordings: Path, tmp_path: Path) -> None:
    """What is done is not scored again, but for files that were written to since, and those that are new."""
    out = tmp_path / "out"
    detect(recordings, out)
    scorer = Counting()
    assert detect(recordings, out, scorer=scorer, resume=True).n_new == 0
    assert sum(scorer.sizes) <= 1

    before = tree(out)
    tone(recordings / "night" / "0.wav", 4, 2.5)
    tone(recordings / "new.wav", 4, 1)
    assert detect(recordings, out, resume=True).n_new == 2
    after = tree(out)
    assert after.keys() - before.keys() == {"events/new.wav.jsonl"}
    assert {name for name in before if before[name] != after[name]} == {"events/night/0.wav.jsonl"}

    # Another of the size of one that is done makes their contents be compared, and nothing else.
    tone(recordings / "day" / "other.wav", 3.7, 2)
    assert detect(recordings, out, resume=True).n_new == 1


def test_what_a_folder_may_hold(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, duplicates, damaged or oddly named files and what is no sound have a line each."""
    (recordings / "loop").symlink_to(recordings)
    (recordings / "away.wav").symlink_to("/etc/hostname")
    shutil.copy(recordings / "day" / "1.wav", recordings / "night" / "copy.wav")
    os.link(recordings / "day" / "3.wav", recordings / "night" / "hard.wav")
    (recordings / "notes.txt").write_text("rain at noon")
    (recordings / "empty.wav").touch()
    (recordings / "cut.wav").write_bytes((recordings / "day" / "1.wav").read_bytes()[:30])
    (recordings / "noise.flac").write_bytes(bytes(range(256)) * 40)
    (recordings / ".hidden.wav").write_bytes(b"x")
    os.mkfifo(recordings / "pipe.wav")
    odd = os.fsdecode(b"caf\xe9 \xf0\x9f\x90\xb6 \n.wav")
    tone(recordings / odd, 3, 1, hertz=500)
    tone(recordings / ("n" * 245 + ".wav"), 3, 1, hertz=600)
    tone(recordings / "place.wav", 3, 1, hertz=700)
    tone(recordings / "place.wav.jsonl" / "inside.wav", 3, 1, hertz=800)

    monkeypatch.chdir(recordings)
    out = Path("results")  # inside of the recordings, as people do
    recordings = Path()
    summary = detect(recordings, out)

    lines = report(out)
    results = {file: line["result"] for file, line in lines.items() if line["result"] != "done"}
    clash = "place.wav" if results.get("place.wav") == "failed" else "place.wav.jsonl/inside.wav"
    assert results == {
        "away.wav": "link",
        "loop": "link",
        "night/copy.wav": "duplicate",
        "night/hard.wav": "duplicate",
        "notes.txt": "other",
        "pipe.wav": "other",
        "empty.wav": "failed",
        "cut.wav": "failed",
        "noise.flac": "failed",
        "n" * 245 + ".wav": "failed",
        clash: "failed",
    }
    assert lines["night/copy.wav"]["note"] == "day/1.wav"
    assert "the file is empty" in str(lines["empty.wav"]["note"])
    assert lines[odd]["events"] == 1
    assert summary.results["done"] == N_FILES + 2
    assert detect(recordings, out, resume=True).results == summary.results


def test_a_recording_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    """What was heard up to there is kept, and not heard again."""
    tone(tmp_path / "tone.wav", 12, 2)
    folder, out = tmp_path / "recordings", tmp_path / "out"
    folder.mkdir()
    chained_ogg(folder / "chained.ogg", tmp_path / "tone.wav")
    assert detect(folder, out).n_failed == 1
    line = report(out)["chained.ogg"]
    assert (line["result"], line["events"]) == ("damaged", 1)
    assert f"read up to {line['seconds']:.1f} s" in str(line["note"])
    assert b'"phase":"start"' in tree(out)["events/chained.ogg.jsonl"]
    assert detect(folder, out, resume=True).n_new == 0


def test_a_folder_without_files(tmp_path: Path) -> None:
    """Nothing to hear is no error; a folder that is not there is one."""
    (tmp_path / "none").mkdir()
    assert detect(tmp_path / "none", tmp_path / "out").results == {}
    with pytest.raises(InputError, match="nowhere"):
        detect(tmp_path / "nowhere", tmp_path / "other")


def test_results_are_not_mixed(recordings: Path, tmp_path: Path) -> None:
    """Other rules, another folder or a forgotten --resume are refused, and nothing is touched."""
    out = tmp_path / "out"
    detect(recordings, out)
    before = tree(out)
    with pytest.raises(UsageError, match="--resume"):
        detect(recordings, out)
    with pytest.raises(UsageError, match="configuration differ"):
        detect(recordings, out, resume=True, config=configured(detection={"on": 0.6}))
    (tmp_path / "others").mkdir()
    with pytest.raises(UsageError, match="engine differ"):
        detect(recordings, out, resume=True, config=configured(model={"max_batch": 4, "engine": "onnx"}))
    with pytest.raises(UsageError, match="recordings differ"):
        detect(tmp_path / "others", out, resume=True)
    assert tree(out) == before
    # Where and with how many threads it ran changes no result that is worth a name.
    assert (
        detect(recordings, out, resume=True, config=configured(model={"max_batch": 4, "threads": 2})).n_new
        == 0
    )


def test_the_engine_of_the_first_job(tmp_path: Path) -> None:
    """What `auto` chooses is a matter of the moment: later jobs take what the first has taken."""
    auto = configured().model
    assert job.as_chosen(auto, None) == auto
    chosen = job.as_chosen(auto, "onnx, float32")
    assert (chosen.engine, chosen.dtype) == ("onnx", "float32")
    asked = configured(model={"engine": "torch", "dtype": "bfloat16"}).model
    assert job.as_chosen(asked, "onnx, float32") == asked


def test_one_job_at_a_time(recordings: Path, tmp_path: Path) -> None:
    """The same shard twice, or shards that overlap, would do work twice; others run beside each other."""
    out = tmp_path / "out"
    with Output(out, Shard(0, 2), ".jsonl").working():
        for shard in ("0/2", "0/1", "1/3"):
            with pytest.raises(UsageError, match="at work"):
                detect(recordings, out, shard=shard)
        assert detect(recordings, out, shard="1/2").n_new > 0
    assert detect(recordings, out).n_new > 0


@pytest.mark.parametrize("text", ["3", "3/", "/3", "3/3", "-1/3", "1/0", "a/b", "1/2/3", "¹/2"])
def test_a_shard_that_is_none(text: str) -> None:
    """It is said how one is written."""
    with pytest.raises(UsageError, match="I/N"):
        Shard.parse(text)


def test_shards_share_the_files() -> None:
    """Each file is in one shard, and no shard has far more than its part."""
    files = [f"night/{i}.wav" for i in range(8000)]
    counts = [sum(Shard(i, 16).has(file) for file in files) for i in range(16)]
    assert sum(counts) == len(files)
    assert max(counts) < 1.2 * len(files) / 16


def test_a_report_that_was_cut_short(recordings: Path, tmp_path: Path) -> None:
    """A kill may leave half a line: that file is heard again, all others are not."""
    out = tmp_path / "out"
    detect(recordings, out)
    whole = (out / "report.jsonl").read_bytes()
    (out / "report.jsonl").write_bytes(whole[:-20])
    assert detect(recordings, out, resume=True).n_new == 1
    assert (out / "report.jsonl").read_bytes() == whole


@pytest.mark.parametrize("name", ["report.jsonl", "manifest.jsonl"])
def test_a_state_that_somebody_edited(recordings: Path, tmp_path: Path, name: str) -> None:
    """Lines that are none are left out; what they stood for is found again."""
    out = tmp_path / "out"
    detect(recordings, out)
    whole = (out / name).read_bytes()
    for odd in (b'{"file": 1}', b'{"file": "x", "kind": "y", "colour": 3}', b"[]", b"7", b"\xff\x00"):
        with (out / name).open("ab") as file:
            file.write(odd + b"\n")
        assert detect(recordings, out, resume=True).results == {"done": N_FILES}
        assert (out / name).read_bytes() == whole


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    with mounted(tmp_path, "1m") as disk:
        yield disk


@pytest.mark.slow
def test_a_full_disk(recordings: Path, small_disk: Path, tmp_path: Path) -> None:
    """It is said, what was finished is whole, and with room the job goes on where it was."""
    detect(recordings, tmp_path / "whole")
    out = small_disk / "out"
    out.mkdir()
    filling = small_disk / "filling"
    filling.write_bytes(bytes((1 << 20) - (40 << 10)))
    with pytest.raises(OutputError, match=r"No space left on device.*--resume"):
        detect(recordings, out)
    done = tree(out)
    whole = tree(tmp_path / "whole")
    assert 0 < len(done) < N_FILES
    assert done.items() <= whole.items()

    filling.unlink()
    assert detect(recordings, out, resume=True).n_new == N_FILES - len(done)
    assert tree(out) == whole
    assert report(out) == report(tmp_path / "whole")
