"""One source's life: its states, and what becomes of errors that nobody foresaw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.capture.stall import BAD_S
from streamer.config.schema import Config
from streamer.core.backoff import Backoff
from streamer.errors import InputError, SourceError
from streamer.metrics import Metrics
from streamer.run.listener import TRANSITIONS, Listener, SourceLimits, source_limits
from streamer.types import AudioBlock, Hearing, Report, Samples, Scores, SourcePhase, SourceState, Window
from tests.inference.engines import LABELS

RATE = 4000
CONFIG = Config.model_validate(
    {
        "sources": {"room": {"demo": True}},
        "sounds": {"siren": {"labels": ["Siren"]}},
        "windows": {"hop_s": 0.25},
    }
)
LIMITS = SourceLimits(stall_s=0.3, backoff=Backoff(first_s=0.01, longest_s=0.02))
NOISE = (0.01 * np.random.default_rng(0).normal(size=RATE // 10)).astype(np.float32)

Stretch = tuple[str, str]
"""how a source is opened, and what it does then"""


class Scripted:
    """A source that lives through a script, and then ends."""

    sample_rate = RATE

    def __init__(self, script: Sequence[Stretch], block: Samples = NOISE, n_blocks: int = 6) -> None:
        self._script = list(script)
        self._block = block
        self._n_blocks = n_blocks
        self._then = "end"

    async def open(self) -> None:
        how, self._then = self._script.pop(0) if self._script else ("opens", "ends")
        match how:
            case "is away":
                raise SourceError("not there")
            case "has a fault":
                raise RuntimeError("a fault")

    async def run(self, write: Callable[[AudioBlock], None]) -> None:
        words = self._then.split()
        for _ in range(self._n_blocks if "gives" in words else 0):
            write(AudioBlock(self._block, time.time()))
            await asyncio.sleep(0.06)
        match words[-1]:
            case "fails":
                raise SourceError("lost")
            case "breaks":
                raise RuntimeError("a fault")
            case "stalls":
                await asyncio.sleep(0.8)
                raise SourceError("nothing came")

    async def close(self) -> None: ...


class Quiet:
    """A `Worker` that finds nothing."""

    async def score(self, window: Window) -> Scores:
        return Scores("room", window.index, window.start, window.end, np.zeros(len(LABELS), np.float32))


def listener(source: Scripted, reports: list[Report], metrics: Metrics | None = None) -> Listener:
    return Listener(
        "room",
        source,
        CONFIG,
        worker=Quiet(),  # type: ignore[arg-type]  # the one method that is used
        labels=LABELS,
        window_s=1.0,
        emit=reports.append,
        metrics=metrics or Metrics(),
        limits=LIMITS,
    )


def phases(reports: Sequence[Report]) -> list[str]:
    return [report.phase.value for report in reports if isinstance(report, SourceState)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([("opens", "gives ends")], ["listening", "ended"]),
        ([("is away", ""), ("opens", "gives ends")], ["waiting", "listening", "ended"]),
        ([("opens", "gives fails")] * 2, ["listening", "reopening", "listening", "reopening", "ended"]),
        ([("opens", "gives fails"), ("is away", "")], ["listening", "reopening", "waiting", "ended"]),
        ([("opens", "gives stalls")], ["listening", "stalled", "reopening", "ended"]),
        ([("has a fault", ""), ("opens", "gives ends")], ["failed", "listening", "ended"]),
        ([("opens", "gives breaks")], ["listening", "failed", "ended"]),
    ],
)
async def test_the_states_of_a_source(script: list[Stretch], expected: list[str]) -> None:
    """Each is emitted once, in order."""
    reports: list[Report] = []
    async with asyncio.timeout(30):
        assert await listener(Scripted(script), reports).run() is None
    assert phases(reports) == expected


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["opens", "is away", "has a fault"]),
            st.sampled_from(["fails", "gives fails", "breaks", "gives breaks", "gives stalls"]),
        ),
        max_size=5,
    )
)
def test_every_change_is_legal(script: list[Stretch]) -> None:
    """Whatever happens to a source, its states follow the table, and it ends when its recording does."""
    reports: list[Report] = []
    asyncio.run(asyncio.wait_for(listener(Scripted(script), reports).run(), 60))
    found = [SourcePhase(phase) for phase in phases(reports)]
    before: SourcePhase | None = None
    for phase in found:
        assert phase == before or phase in TRANSITIONS[before]
        before = phase
    assert before is SourcePhase.ENDED


def test_an_illegal_change_is_an_error() -> None:
    """A recording that has ended stays so; nothing of it is emitted."""
    reports: list[Report] = []
    one = listener(Scripted([]), reports)
    one._enter(SourcePhase.LISTENING, "")
    one._enter(SourcePhase.ENDED, "")
    with pytest.raises(ValueError, match="room: ended cannot become listening"):
        one._enter(SourcePhase.LISTENING, "")
    assert phases(reports) == ["listening", "ended"]


async def test_a_fault_is_logged_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody foresaw: where it happened is in the log, once; the source is tried again."""
    reports: list[Report] = []
    script = [("has a fault", "")] * 3 + [("opens", "gives ends")]
    assert await listener(Scripted(script), reports).run() is None
    assert phases(reports) == ["failed", "listening", "ended"]
    assert caplog.text.count("room: a fault in the program; the source is tried again") == 1
    assert 'raise RuntimeError("a fault")' in caplog.text


async def test_a_file_that_is_none_is_not_tried_again() -> None:
    """It returns the error, for the exit code."""

    class NoAudio(Scripted):
        async def open(self) -> None:
            raise InputError("x.wav: this is not audio")

    reports: list[Report] = []
    assert isinstance(await listener(NoAudio([]), reports).run(), InputError)
    assert phases(reports) == ["failed"]


async def test_samples_that_are_no_audio_are_a_problem() -> None:
    """NaN from a driver, or a wrong sample format: a problem of the source, said with each hop."""
    block = np.full(round(BAD_S * RATE) // 4, np.nan, np.float32)
    reports: list[Report] = []
    await listener(Scripted([("opens", "gives ends")], block, n_blocks=12), reports).run()
    problem = "samples that are no numbers, or beyond full scale: check format and gain"
    assert problem in {report.problem for report in reports if isinstance(report, Hearing)}
    assert problem in {report.problem for report in reports if isinstance(report, SourceState)}


def test_only_a_fast_file_may_be_fast() -> None:
    """All else that gives more samples than its rate promises has a problem."""
    sources = Config.model_validate(
        {
            "sources": {
                "mic": {"microphone": "default"},
                "stream": {"stream": "http://camera.local/audio"},
                "file": {"stream": "a.wav", "pace": "fast"},
                "demo": {"demo": True},
            },
            "sounds": {"siren": {"labels": ["Siren"]}},
        }
    ).sources
    assert {name for name, own in sources.items() if not source_limits(own).is_paced} == {"file"}
