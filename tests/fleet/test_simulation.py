"""The simulation gives what can be worked out by hand, and accounts for every window."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.fleet.simulation import Cell, Outage, simulate

ONE = Cell(sources=1, hop_s=1.0, engines=1, max_batch=4, wait_s=0.02, batch_s=0.1, window_s=0.01)


def test_one_source() -> None:
    """Each window waits for company that does not come, and is scored alone."""
    outcome = simulate(ONE, 10)
    assert (outcome.due, outcome.scored, outcome.skipped, outcome.batches) == (10, 10, 0, 10)
    assert outcome.latencies == [pytest.approx(0.02 + 0.1 + 0.01)] * 10
    assert outcome.busy_s == pytest.approx(10 * 0.11)


def test_all_at_once() -> None:
    """Eight windows of one moment are two full batches, which wait for nobody, one after the other."""
    outcome = simulate(replace(ONE, sources=8, in_phase=True), 1)
    assert outcome.batches == 2
    assert sorted(outcome.latencies) == [pytest.approx(0.14)] * 4 + [pytest.approx(0.28)] * 4


def test_two_engines() -> None:
    """They work at the same time."""
    outcome = simulate(replace(ONE, sources=8, in_phase=True, engines=2), 1)
    assert outcome.latencies == [pytest.approx(0.14)] * 8


def test_too_much_work() -> None:
    """An engine that is always busy scores what it can, and the rest is skipped: the newest wins."""
    cell = replace(ONE, sources=100)
    outcome = simulate(cell, 120)
    seconds = max(120.0, outcome.busy_s)
    assert outcome.scored / seconds == pytest.approx(4 / 0.14, rel=0.02)
    assert outcome.skipped == outcome.due - outcome.scored
    # A window that is not older than a hop waits until all other sources had their turn.
    turn_s = 100 * 0.14 / 4
    assert turn_s < outcome.latency(50) < turn_s + cell.hop_s + 0.14


def test_the_gate_saves_windows() -> None:
    """Only a share of the hops is to be scored."""
    outcome = simulate(replace(ONE, sources=20, scored=0.3), 100)
    assert outcome.due == pytest.approx(600, rel=0.1)


def test_an_engine_dies() -> None:
    """Its batch is scored by the next one; nothing is lost."""
    cell = replace(ONE, sources=6, engines=2, outage=Outage(at=3.05, lasts_s=2.0, engines=1), in_phase=True)
    outcome = simulate(cell, 10)
    assert outcome.retried == 4
    assert (outcome.scored, outcome.skipped) == (outcome.due, 0)


def test_all_engines_die() -> None:
    """While they are gone each source keeps its oldest and newest window; then latency is as before."""
    cell = replace(ONE, sources=2, outage=Outage(at=3.5, lasts_s=10.0, engines=1))
    outcome = simulate(cell, 30)
    assert outcome.due == 60
    assert outcome.skipped == pytest.approx(2 * 8, abs=2)
    assert outcome.latency(100) == pytest.approx(10, abs=1.2)
    assert outcome.latencies[-1] < 0.2


@settings(max_examples=60, deadline=None)
@given(
    sources=st.integers(1, 40),
    engines=st.integers(1, 3),
    max_batch=st.integers(1, 16),
    wait_s=st.sampled_from([0.0, 0.02, 0.2]),
    batch_s=st.sampled_from([0.001, 0.1, 1.5]),
    scored=st.sampled_from([0.1, 1.0]),
    in_phase=st.booleans(),
    at=st.floats(0, 8),
    lasts_s=st.floats(0.01, 8),
    dead=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_no_window_is_unaccounted_for(
    sources: int,
    engines: int,
    max_batch: int,
    wait_s: float,
    batch_s: float,
    scored: float,
    in_phase: bool,
    at: float,
    lasts_s: float,
    dead: int,
    seed: int,
) -> None:
    """Whatever happens, each window that came due was scored or skipped, and the same seed tells the same."""
    outage = Outage(at, lasts_s, min(dead, engines))
    cell = Cell(sources, 1.0, engines, max_batch, wait_s, batch_s, 0.005, scored, in_phase, outage)
    outcome = simulate(cell, 10, seed)
    assert outcome.scored + outcome.skipped == outcome.due
    assert len(outcome.latencies) == outcome.scored
    assert all(latency >= batch_s for latency in outcome.latencies)
    assert outcome.mean_batch <= max_batch
    assert simulate(cell, 10, seed) == outcome
