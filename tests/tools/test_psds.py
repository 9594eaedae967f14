"""Saved scores are judged by sed_scores_eval, in the environment of the soundscape tools."""

from __future__ import annotations

from pathlib import Path

from tools.psds import MAX_FALSE_ALARMS_AN_HOUR, PSDS1, PSDS2, read_events


def test_events_are_read_by_recording(tmp_path: Path) -> None:
    """Onset, offset and class, as the library wants them; other columns are left out."""
    path = tmp_path / "evening.tsv"
    path.write_text("onset\toffset\tevent_label\tclip\n1.5\t2\tdog\ta.wav\n3\t4.25\tcat\t\n")
    assert read_events([path]) == {"evening": [(1.5, 2.0, "dog"), (3.0, 4.25, "cat")]}


def test_the_parameters_are_those_of_the_challenge() -> None:
    """DCASE 2022, task 4: scenario 1 for exact times, scenario 2 for names and cross triggers."""
    assert (PSDS1["dtc_threshold"], PSDS1["gtc_threshold"], PSDS1["alpha_ct"], PSDS1["alpha_st"]) == (
        0.7,
        0.7,
        0,
        1,
    )
    assert (PSDS2["dtc_threshold"], PSDS2["gtc_threshold"], PSDS2["cttc_threshold"]) == (0.1, 0.1, 0.3)
    assert (PSDS2["alpha_ct"], PSDS2["alpha_st"], MAX_FALSE_ALARMS_AN_HOUR) == (0.5, 1, 100)
