"""What a fault cost, for the table that `make faults` prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    noticed_s: float | None = None
    recovered_s: float | None = None
    lost: str = "nothing"


FAULTS: list[Fault] = []


def lines() -> list[str]:
    """The table in Markdown."""

    def seconds(value: float | None) -> str:
        return "" if value is None else f"{value:.1f} s"

    rows = [("fault", "noticed after", "recovered after", "lost")]
    rows += [(f.name, seconds(f.noticed_s), seconds(f.recovered_s), f.lost) for f in FAULTS]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    text = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [text[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *text[1:]]
