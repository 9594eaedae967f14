"""Why an event is there, in sentences."""

from __future__ import annotations

from streamer.language import Names
from streamer.store.query import Event


def explain(event: Event, names: Names) -> list[str]:
    """Why the event is there, as sentences, by the rules that were in force when it started."""
    rule, words = event.rule or {}, names.page()
    lines = []
    if "on" in rule and rule.get("labels"):
        scores = {"peak": event.peak, "on": rule["on"], "off": rule["off"]}
        shown = {name: names.number(score, ".2f") for name, score in scores.items()}
        lines.append(words["why_score"].format(**shown))
    if above_db := rule.get("above_background_db"):
        lines.append(words["why_above"].format(db=names.number(above_db, "g")))
    if rule.get("confirm", 1) > 1:
        lines.append(words["why_confirm"].format(n=rule["confirm"], of=rule["confirm_of"]))
    if least_s := rule.get("min_duration_s"):
        lines.append(words["why_min"].format(s=names.number(least_s, "g")))
    if others := rule.get("unless"):
        lines.append(words["why_unless"].format(sounds=", ".join(map(names.sound, others))))
    if rule.get("veto"):
        lines.append(words["why_veto"])
    if event.verified is not None:
        lines.append(words["why_cadence_found" if event.verified else "why_cadence_missing"])
    if not event.notify:
        lines.append(words["why_cooling"])
    if event.is_cut:
        lines.append(words["why_cut"])
    return lines
