"""What windows say of a moment is brought together."""

import numpy as np
import pytest

from streamer.detection.timeline import CELL_S, Timeline

BEGIN = 1_790_000_000.0


def constant(score: float) -> np.ndarray:
    return np.full((64, 1), score, np.float32)


@pytest.mark.parametrize("hop_s", [0.25, 0.3, 0.5, 1.0, 2.0, 10.0])
def test_windows_that_agree_are_believed_everywhere(hop_s: float) -> None:
    """However far the hop, no moment is left out and none gets another score than all windows gave it."""
    line = Timeline(1, BEGIN, keep_s=12)
    for k in range(8):
        line.add(constant(0.7), BEGIN + k * hop_s, BEGIN + k * hop_s + 10, 0.16)

    means = line.means()

    np.testing.assert_allclose(means, 0.7, rtol=1e-6)
    assert abs(line.time(line.until) - (BEGIN + 7 * hop_s + 10)) <= CELL_S / 2 + 1e-6
    assert len(means) == line.until - line.first <= 12 / CELL_S


def test_frames_fall_on_their_moments() -> None:
    """A frame speaks of its own 0.16 s of the window, to the cell, and not beyond the window's end."""
    line = Timeline(1, BEGIN, keep_s=12)
    frames = np.zeros((64, 1), np.float32)
    frames[20], frames[63] = 1, 1

    line.add(frames, BEGIN, BEGIN + 10, 0.16)

    assert np.flatnonzero(line.means()[:, 0]).tolist() == list(range(80, 84))
    assert line.until == 250


def test_the_edge_of_a_window_yields_to_the_middle_of_another() -> None:
    """In the second where one window ends and another has its middle, the middle's word counts more."""
    line = Timeline(1, BEGIN, keep_s=16)
    line.add(constant(0), BEGIN, BEGIN + 10, 0.16)
    line.add(constant(1), BEGIN + 5, BEGIN + 15, 0.16)

    means = line.means()[:, 0]

    assert means[line.cell(BEGIN + 4.9)] == 0
    assert means[line.cell(BEGIN + 5.02)] < 0.1  # the second window begins
    assert means[line.cell(BEGIN + 7.5)] == pytest.approx(0.5)
    assert means[line.cell(BEGIN + 9.95)] > 0.9  # the first window ends
    assert means[line.cell(BEGIN + 10.1)] == 1


def test_the_only_witness_is_heard() -> None:
    """The newest moment was seen by the last instant of one window: what that says is taken as it is."""
    line = Timeline(1, BEGIN, keep_s=12)
    line.add(constant(0), BEGIN, BEGIN + 10, 0.16)
    line.add(constant(1), BEGIN + 1, BEGIN + 11, 0.16)

    assert line.means()[-1] == 1


def test_nothing_before_the_origin_is_kept() -> None:
    """The part of a window that lies before the source's start is no memory."""
    line = Timeline(1, BEGIN, keep_s=12)
    line.add(constant(0.5), BEGIN - 9, BEGIN + 1, 0.16)

    assert (line.first, line.until) == (0, 25)
    assert len(line.means()) == 25


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    """After an hour the line is as long as at the start, and knows the latest seconds."""
    line = Timeline(1, BEGIN, keep_s=12)
    for k in range(3600):
        line.add(constant(k % 2), BEGIN + k - 9, BEGIN + k + 1, 0.16)

    assert len(line.means()) == 300
    assert line.time(line.until) == pytest.approx(BEGIN + 3600, abs=CELL_S)
    assert np.isfinite(line.means()).all()


def test_no_mean_is_above_its_bound() -> None:
    """Nor far below it: what windows said that are forgotten, also by a leap, no longer counts."""
    rng = np.random.default_rng(3)
    line = Timeline(5, BEGIN, keep_s=12)
    end = BEGIN + 10
    for hop in range(400):
        end += float(rng.choice([0.3, 1.0, 3.0]))
        if hop % 50 == 49:
            end += 40
            line.leap(line.cell(end), 0.01)
        line.add(rng.beta(0.2, 2, (64, 5)).astype(np.float32), max(BEGIN, end - 10), end, 0.16)
        assert (line.means().max(axis=0) <= line.bounds() + 1e-6).all()
    line.add(np.full((1, 5), 0.1, np.float32), end, end + 30, 30)
    np.testing.assert_allclose(line.bounds(), 0.1)
