"""Why an event is there, in sentences."""

from __future__ import annotations

from streamer.language import Names
from streamer.store.query import Event


def explain(event: Event, names: Names) -> list[str]:
    """Why the event is there, as sentences, by the rules that were in force when it started."""
    rule = event.rule or {}
    lines = []
    if "on" in rule and rule.get("labels"):
        lines.append(
            f"Its score reached {event.peak:.2f}; it starts at {rule['on']:.2f} "
            f"and ends below {rule['off']:.2f}."
        )
    if rule.get("above_background_db"):
        lines.append(f"It was more than {rule['above_background_db']:g} dB above the background of the room.")
    if rule.get("confirm", 1) > 1:
        lines.append(f"{rule['confirm']} of {rule['confirm_of']} hops agreed.")
    if rule.get("min_duration_s"):
        lines.append(f"It was longer than {rule['min_duration_s']:g} s.")
    if rule.get("unless"):
        lines.append(f"Nothing of {', '.join(names.sound(other) for other in rule['unless'])} was stronger.")
    if rule.get("veto"):
        lines.append("It was not like the events that were marked wrong.")
    if event.verified is not None:
        found = "was found" if event.verified else "was not found"
        lines.append(f"The cadence of an alarm {found} in the signal.")
    if not event.notify:
        lines.append("The sound was cooling down, so it did not notify.")
    if event.is_cut:
        lines.append("The program ended in the middle of it; its true end is not known.")
    return lines
