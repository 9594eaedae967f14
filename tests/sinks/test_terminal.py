"""The live view, drawn by rich into memory."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import logging
import sys

import pytest
from rich.console import Console

from streamer.sinks.terminal import TerminalSink
from streamer.types import Hearing, SourceState
from tests.mosquitto import until
from tests.reports import T0, event, occurrence

SUBSCRIBE = "mosquitto_sub -h 127.0.0.1 -p 1883 -t 'streamer/#' -v"


def sink_on(width: int = 80, height: int = 24) -> tuple[TerminalSink, io.StringIO]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, height=height)
    return TerminalSink("home", "ast-tiny, 527 labels, cpu", SUBSCRIBE, console=console), screen


def lines(sink: TerminalSink, width: int = 80, height: int = 24) -> list[str]:
    """The view three seconds after the onset of the events, without colours."""
    console = Console(file=io.StringIO(), width=width, height=height)
    with console.capture() as capture:
        console.print(sink.render(T0 + 3.0))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_what_is_heard_now() -> None:
    """Node, model and the way to the events on top; then each source with its level and strongest labels."""
    sink, _ = sink_on()
    sink.put(SourceState("kitchen", "listening", T0))
    sink.put(Hearing("kitchen", T0, -20.0, {"Dog": 1.0, "[bold]Bark": 0.5, "Cat": 0.0, "Bird": 0.0}))
    sink.put(SourceState("hall", "waiting", T0, "no device matches 'USB'"))
    text = lines(sink)
    assert text[0] == "streamer  home  ast-tiny, 527 labels, cpu"
    assert SUBSCRIBE in text[1]
    assert text[3] == f"kitchen       ● listening   {'━' * 21}{'─' * 7}   -20 dBFS"
    assert text[4] == f"  {'Dog':<24}  {'━' * 28}  1.00"
    assert text[5] == f"  {'[bold]Bark':<24}  {'━' * 14}{'─' * 14}  0.50"
    assert text[6] == f"  {'Cat':<24}  {'─' * 28}  0.00"
    assert text[7] == "hall          ● waiting     no device matches 'USB'"
    assert text[-1] == "none yet"


def test_ongoing_events_stand_first() -> None:
    """What goes on shows how long it has; what ended, how long it was; the newest first."""
    sink, _ = sink_on()
    sink.put(SourceState("kitchen", "listening", T0))
    for one in [*occurrence("old"), *occurrence("new"), event("start", event_id="now", sound="doorbell")]:
        sink.put(one)
    long = dataclasses.replace(event("end", event_id="long", sound="siren"), offset=T0 + 125)
    sink.put(long)
    shown = [line.split() for line in lines(sink)[-4:]]
    assert [line[-5:] for line in shown[:1]] == [["for", "3", "s", "peak", "0.93"]]
    assert shown[0][0] == "●"
    assert "doorbell" in shown[0]
    assert shown[1][2:] == ["siren", "2", "min", "05", "s", "peak", "0.93"]
    assert shown[2][2:] == shown[3][2:] == ["dog_bark", "2.5", "s", "peak", "0.93"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (200, 60)])
@pytest.mark.parametrize("sources", [1, 3, 6])
def test_the_view_fits(width: int, height: int, sources: int) -> None:
    """Whatever there is to say, no line is longer and the view is not higher than the terminal."""
    sink, _ = sink_on(width, height)
    for number in range(sources):
        name = f"a-source-with-a-long-name-{number}"
        sink.put(SourceState(name, "listening", T0))
        sink.put(Hearing(name, T0, 0.0, dict.fromkeys(("Domestic animals, pets", "b", "c", "d"), 0.5)))
        for occurred in range(50):
            sink.put(event("start", event_id=f"{number}/{occurred}", source=name, sound="s" * 60))
    text = lines(sink, width, height)
    assert len(text) < height
    assert max(map(len, text)) <= width


async def test_log_lines_appear_above() -> None:
    """While the view is up a log line goes through it; after it the terminal and the log are as before."""
    sink, screen = sink_on()
    handler = logging.StreamHandler(stream := sys.stderr)
    logging.getLogger().addHandler(handler)
    try:
        task = asyncio.create_task(sink.run())
        await until(lambda: "none yet" in screen.getvalue())
        logging.getLogger("test").error("something happened")
        assert "something happened" in screen.getvalue()
        sink.put(event("start"))
        await until(lambda: "dog_bark" in screen.getvalue())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert handler.stream is stream
    finally:
        logging.getLogger().removeHandler(handler)
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert screen.getvalue().count(hidden) == screen.getvalue().count(shown) == 1
    assert screen.getvalue().rindex(shown) > screen.getvalue().rindex("dog_bark")
