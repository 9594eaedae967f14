"""The page in a real browser (Debian's Chromium), over a real daemon that plays its own recording."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import shutil
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from streamer.language import Language
from streamer.store.query import Filter, reading
from streamer.web.feed import CLIENTS_MAX
from tests.daemon import Daemon, configuration, running
from tests.run.test_discover import RAIN, VALUES
from tests.run.test_discover import lived_in as knocked_in
from tests.web.conftest import fill
from tests.web.site import CONFIG
from tests.web.site import served as site_served
from tests.web.test_api import kept_clip
from tests.web.test_teaching import listened

pytestmark = pytest.mark.slow

VIEWS = ("now", "events", "sounds", "health")
SIZES = {"phone": (360, 740), "tablet": (768, 1024), "desktop": (1440, 900)}
ZONE = "Pacific/Auckland"
"""of the home"""
ELSEWHERE = "America/Los_Angeles"
"""where the browser is: on another day for most of the time"""
WEIGHT = 90_000
"""bytes of the whole page, compressed"""


@dataclass
class Served:
    daemon: Daemon
    address: str
    folder: Path
    heard_since: float
    """monotonic seconds: at the latest since then it listens without a pause"""

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.address}api/1/{path}", timeout=30) as answer:  # noqa: S310  # http
            fields: dict[str, Any] = json.load(answer)
            return fields


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Until something was heard."""
    folder = tmp_path_factory.mktemp("page")
    config = configuration(
        folder,
        {"microphone": "nothing of this name", "fallback": "demo", "name": "Kitchen"},
        mqtt={"enabled": False},
        web={"enabled": True, "next_free_port": True},
    )
    with running(config, {"STATE_DIRECTORY": str(folder), "TZ": ZONE}) as daemon:
        address = daemon.until_says("page: http://").rpartition(" ")[2].rstrip("/") + "/"
        daemon.until_says(" ended after ")
        yield Served(daemon, address, folder, time.monotonic())
        assert daemon.stop() == 0


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's."""
    path = shutil.which("chromium")
    assert path, "Chromium is missing: scripts/debian-packages chromium"
    browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright, chromium(playwright) as started:
        yield started


@dataclass
class Opened:
    page: Page
    faults: list[str] = field(default_factory=list)
    bodies: dict[str, int] = field(default_factory=dict)
    """bytes of each file of the page, compressed"""


@contextmanager
def opened(
    browser: Browser,
    address: str,
    *,
    size: tuple[int, int] = (1440, 900),
    scheme: str = "light",
    allowed: str = "",
    **options: Any,
) -> Iterator[Opened]:
    """A page whose faults are none at the end: no error, nothing refused, no address of others.

    `allowed` is its own address where another is opened first.
    """
    context: BrowserContext = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **options
    )
    page = context.new_page()
    result = Opened(page)
    page.on("console", lambda line: result.faults.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: result.faults.append(str(error)))
    page.on("dialog", lambda dialog: result.faults.append(dialog.message))

    def count(response: Any) -> None:
        if not response.url.startswith(allowed or address.partition("#")[0]):
            result.faults.append(f"asked {response.url}")
        elif "/api/" not in response.url and response.ok:
            result.bodies[response.url] = len(gzip.compress(response.body()))

    page.on("response", count)
    page.goto(address)
    try:
        yield result
        assert result.faults == []
    finally:
        context.close()


def view(page: Page, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name.capitalize()).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name.capitalize())


def serious_faults(page: Page) -> list[tuple[Any, ...]]:
    """What would keep some people from using it."""
    return [
        (one["id"], one["nodes"][0]["html"], one["nodes"][0].get("failureSummary"))
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_view(served: Served, browser: Browser, size: tuple[int, int], scheme: str) -> None:
    """Can be read, by a screen reader as well, and does not scroll sideways."""
    with opened(browser, served.address, size=size, scheme=scheme) as it:
        for name in VIEWS:
            view(it.page, name)
            it.page.wait_for_load_state("networkidle") if name != "now" else it.page.wait_for_timeout(500)
            width = it.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert width <= 0, f"{name} is {width} px too wide"
            assert serious_faults(it.page) == [], name


def test_the_smallest_screen(served: Served, browser: Browser) -> None:
    """320 px wide, as a large screen at 400 % zoom is."""
    with opened(browser, served.address, size=(320, 640)) as it:
        for name in VIEWS:
            view(it.page, name)
            it.page.wait_for_timeout(300)
            assert it.page.evaluate("document.documentElement.scrollWidth") <= 320, name


LOADED = {"now": ".source", "events": ".entry", "sounds": ".heat", "health": ".facts"}
"""what a view has once its answers are there"""
CLIPPED = """() => [...document.querySelectorAll("main *, nav *")]
    .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX !== "visible")
    .filter((one) => !one.matches(".scroll, .visually-hidden"))
    .map((one) => one.textContent.trim())"""


@pytest.mark.parametrize("language", sorted(set(get_args(Language)) - {"en"}))
def test_another_language(browser: Browser, tmp_path: Path, language: str) -> None:
    """Fits a phone, in each view; what is said of an event is in that language, too."""
    fill(tmp_path, 40)
    with site_served(tmp_path, language=language) as site:
        words = site.config.names.page()
        with opened(browser, site.page.server.address, size=(360, 740)) as it:
            assert it.page.evaluate("document.documentElement.lang") == language
            for name in VIEWS:
                it.page.goto(f"{site.page.server.address}#/{name}")
                expect(it.page.get_by_role("heading", level=1)).to_have_text(words[name])
                it.page.locator(LOADED[name]).first.wait_for()
                if name == "events":
                    it.page.locator(".entry").first.click()
                    expect(it.page.locator(".why li").first).to_have_text(
                        re.compile(re.escape(words["why_score"].partition("{")[0]))
                    )
                width = it.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert width <= 0, f"{name} is {width} px too wide"
                assert it.page.evaluate(CLIPPED) == [], name


def test_what_is_heard_now(served: Served, browser: Browser) -> None:
    """The spectrogram moves, and a sound that begins is there without a reload."""
    with opened(browser, served.address) as it:
        canvas = it.page.locator("canvas.spectrum")
        expect(canvas).to_be_visible()

        def pixels() -> str:
            drawn: str = canvas.evaluate("canvas => canvas.toDataURL()")
            return drawn

        before = pixels()
        it.page.wait_for_function(
            "before => document.querySelector('canvas.spectrum').toDataURL() !== before", arg=before
        )
        expect(it.page.locator(".source .state")).to_have_text("listening · built-in recording")
        seen = {event["id"] for event in served.get("events?limit=200")["events"]}
        it.page.wait_for_function(
            """seen => [...document.querySelectorAll('.sounding a')]
                .some(a => !seen.includes(a.hash.split('/')[2]))""",
            arg=sorted(seen),
            timeout=90_000,
        )


def test_the_half_minute_before(served: Served, browser: Browser) -> None:
    """Is in the spectrogram of a page that has just been opened, and stays there until it is over."""
    oldest = """() => {
        const canvas = document.querySelector("canvas.spectrum");
        const drawn = canvas.getContext("2d").getImageData(2, 0, canvas.width / 4, canvas.height).data;
        return drawn.some((value, i) => i % 4 === 1 && value > 40);
    }"""
    time.sleep(max(0.0, served.heard_since + 30 - time.monotonic()))  # so much was heard, at least
    with opened(browser, served.address) as it:
        it.page.wait_for_selector("canvas.spectrum")
        it.page.wait_for_timeout(1000)
        assert it.page.evaluate(oldest)
        it.page.wait_for_timeout(4000)
        assert it.page.evaluate(oldest)


def test_a_review_by_keys_alone(served: Served, browser: Browser) -> None:
    """J opens, r and w judge, u takes back, Esc closes."""
    with opened(browser, f"{served.address}#/events") as it:
        expect(it.page.locator(".entry").first).to_be_visible()
        it.page.keyboard.press("j")
        expect(it.page.locator(".detail h2")).to_be_visible()
        event_id = it.page.url.rpartition("/")[2]
        for key, verdict in (("r", "right"), ("w", "wrong"), ("u", "right")):
            it.page.keyboard.press(key)
            pressed = it.page.locator(
                f'.review button[aria-pressed="true"]:text-is("{verdict.capitalize()}")'
            )
            expect(pressed).to_be_visible()
            assert served.get(f"events/{event_id}")["event"]["verdict"] == verdict
        it.page.keyboard.press("Escape")
        expect(it.page.locator(".detail")).to_have_count(0)


def test_what_was_missed(served: Served, browser: Browser) -> None:
    """Is noted at the home's time, wherever the browser is, and may be taken back; Esc closes."""
    with opened(browser, f"{served.address}#/events", timezone_id=ELSEWHERE, size=(360, 740)) as it:
        for _ in range(2):
            it.page.get_by_role("button", name="Missed one").click()
            dialog = it.page.get_by_role("dialog", name="What was missed?")
            expect(dialog).to_be_in_viewport()
            assert serious_faults(it.page) == []
            it.page.keyboard.press("Escape")
            expect(dialog).to_have_count(0)
        it.page.get_by_role("button", name="Missed one").click()
        dialog.get_by_label("Sound").select_option("siren")
        dialog.get_by_label("At").fill("00:00:01")
        dialog.get_by_role("button", name="Note it").click()
        expect(dialog).to_have_count(0)
        info = served.get("info")
        midnight = datetime.fromisoformat(info["today"]).replace(tzinfo=ZoneInfo(info["zone"])).timestamp()
        with reading(served.folder) as reader:
            (missed,) = reader.missed()
        assert (missed.source, missed.sound) == ("room", "siren")
        assert (missed.onset - midnight, missed.offset - missed.onset) == (1.0, 3.0)
        it.page.get_by_role("region", name="Reported as missed").get_by_role("link").click()
        expect(it.page.get_by_role("region", name="Missed sound")).to_contain_text("00:00:01")
        assert serious_faults(it.page) == []
        it.page.once("dialog", lambda dialog: dialog.accept())
        it.page.get_by_role("button", name="Remove the report").click()
        expect(it.page.locator(".detail")).to_have_count(0)
        assert served.get("missed")["missed"] == []
        it.faults.clear()  # of the question


def test_a_threshold(served: Served, browser: Browser) -> None:
    """Moved in one page, it moves in another."""
    with (
        opened(browser, f"{served.address}#/sounds") as it,
        opened(browser, f"{served.address}#/sounds") as other,
    ):
        slider = "input[aria-label='Threshold of Siren']"
        it.page.locator(slider).fill("0.42")
        expect(other.page.locator(slider)).to_have_value("0.42")
        assert served.get("control")["room"]["thresholds"]["siren"]["set"] == 0.42


def test_no_connection(served: Served, browser: Browser) -> None:
    """Is said in every view; when it is back, the page goes on by itself, and shows no event twice."""
    with opened(browser, served.address) as it:
        expect(it.page.locator(".source")).to_be_visible()
        it.page.context.set_offline(offline=True)
        it.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # the stream is opened anew
        view(it.page, "events")
        expect(it.page.locator(".banner")).to_contain_text("No connection")
        it.page.context.set_offline(offline=False)
        expect(it.page.locator(".banner")).to_have_count(0)
        view(it.page, "now")
        view(it.page, "events")
        expect(it.page.locator(".entry").first).to_be_visible()
        shown = it.page.locator(".entry").evaluate_all("all => all.map(one => one.hash)")
        assert len(shown) == len(set(shown))
        it.faults.clear()  # of the requests without a connection


def test_how_much_it_weighs(served: Served, browser: Browser) -> None:
    """All files of all views, compressed, and how many they are."""
    with opened(browser, served.address) as it:
        for name in VIEWS:
            view(it.page, name)
        it.page.wait_for_timeout(500)
        assert sum(it.bodies.values()) <= WEIGHT
        assert len(it.bodies) <= 12


def test_the_zone_of_the_home(served: Served, browser: Browser) -> None:
    """A browser elsewhere shows the home's times, its name, and its today with the newest event."""
    info = served.get("info")
    assert info["zone"] == ZONE
    assert info["today"] == datetime.now(ZoneInfo(ZONE)).date().isoformat()
    newest = served.get("events?limit=1")["events"][0]
    with opened(browser, f"{served.address}#/events", timezone_id=ELSEWHERE) as it:
        expect(it.page.locator(".foot")).to_contain_text(ZONE)
        local = datetime.fromisoformat(newest["onset"]).astimezone(ZoneInfo(ZONE))
        shown = it.page.locator(f'.entry[href="#/events/{newest["id"]}"] time')
        expect(shown).to_have_text(f"{local:%H:%M:%S}")
        for key, days in ((None, 0), ("ArrowLeft", 1), ("ArrowRight", 0)):
            if key:
                it.page.keyboard.press(key)
            day = local - timedelta(days=days)
            expect(it.page.locator(".day b")).to_have_text(f"{day:%a} {day.day} {day:%B}")


def test_without_audio_of_the_browser(served: Served, browser: Browser) -> None:
    """Safari plays no live sound into an analyser: the server draws."""
    with opened(browser, served.address) as it:
        it.page.add_init_script("delete window.AudioContext; delete window.MediaSource;")
        it.page.reload()
        expect(it.page.locator("canvas.spectrum")).to_be_visible()
        assert it.page.evaluate("typeof AudioContext") == "undefined"


def test_a_clip_plays(browser: Browser, tmp_path: Path) -> None:
    """Is found by its filter, with its spectrogram, also without AudioContext and MediaSource (Safari)."""
    fill(tmp_path, 3)
    kept_clip(tmp_path, "000000000001")
    with (
        site_served(tmp_path) as site,
        opened(browser, "about:blank", allowed=site.page.server.address) as it,
    ):
        it.page.add_init_script("delete window.AudioContext; delete window.MediaSource;")
        it.page.goto(f"{site.page.server.address}#/events")
        expect(it.page.locator(".entry")).to_have_count(3)
        it.page.get_by_role("button", name="With a clip").click()
        expect(it.page.locator(".entry")).to_have_count(1)
        it.page.get_by_role("combobox", name="Score").select_option("0.5")
        it.page.locator(".entry").click()
        audio = it.page.locator("audio")
        it.page.wait_for_function("() => document.querySelector('audio')?.duration > 0")
        assert audio.evaluate("audio => audio.duration") == pytest.approx(6.0, abs=0.1)
        drawn = "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, 20, 64).data).size > 4"
        it.page.wait_for_function(drawn, arg=it.page.locator("st-clip canvas").element_handle())
        it.page.keyboard.press(" ")
        it.page.wait_for_function("() => document.querySelector('audio').currentTime > 0")


def test_this_is(browser: Browser, tmp_path: Path) -> None:
    """Three stretches of what was just heard are kept, where that is consented to, and teach a sound."""
    fill(tmp_path, 3)
    base = {**CONFIG, "model": {"engine": "onnx", "threads": 1}}
    with site_served(tmp_path, base=base) as site:
        listened(site)
        with opened(browser, site.page.server.address, size=(360, 740), scheme="dark") as it:
            dialog = it.page.get_by_role("dialog", name="This is …")
            for n, (begin, end) in enumerate([("3", "7.5"), ("13", "17.1"), ("22.8", "27.9")], 1):
                it.page.get_by_role("button", name="This is …").click()
                dialog.get_by_label("What it is called").fill("Our chime")
                dialog.get_by_role("slider", name="From").fill(begin)
                dialog.get_by_role("slider", name="To").fill(end)
                dialog.get_by_role("button", name="Keep as an example").click()
                expect(dialog).to_be_visible()  # nobody has consented
                assert serious_faults(it.page) == []
                dialog.get_by_role("checkbox", name="s of sound of Küche on this machine").check()
                dialog.get_by_role("button", name="Keep as an example").click()
                expect(it.page.get_by_text(f"Kept: example {n} of our_chime")).to_be_visible()
                expect(dialog).to_have_count(0)
            it.page.get_by_role("button", name="This is …").click()
            dialog.get_by_label("What it is called").fill("our_chime")
            dialog.get_by_role("slider", name="From").fill("10.5")
            dialog.get_by_role("slider", name="To").fill("12")
            dialog.get_by_role("checkbox", name="It is not this sound").check()
            dialog.get_by_role("checkbox", name="s of sound of Küche on this machine").check()
            dialog.get_by_role("button", name="Keep as an example").click()
            expect(it.page.get_by_text("Kept: counter-example 1 of our_chime")).to_be_visible()
            view(it.page, "sounds")
            card = it.page.get_by_role("article", name="our_chime")
            card.get_by_role("button", name="Teach it").click()
            expect(card).to_contain_text("Heard again: 3 of 3 examples", timeout=120_000)
            expect(card).to_contain_text("Too few: 3 examples say little; 5 and more are better.")
            expect(card).to_contain_text("taught: our_chime")
            assert card.locator("audio").count() == 4
            expect(card).to_contain_text("Not it")
            assert it.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert serious_faults(it.page) == []


def test_not_this(browser: Browser, tmp_path: Path) -> None:
    """What a veto would have changed is shown before it is in force; what has no name yet is listed."""
    begin = time.time() - 3600
    with ThreadPoolExecutor() as beside:  # the browser has this thread's loop
        beside.submit(lambda: asyncio.run(knocked_in(tmp_path, begin))).result()
    with reading(tmp_path) as reader:
        events = list(reader.events(Filter(sound="bark")))
    (in_rain,) = [event for event in events if abs(event.onset - begin - RAIN) < 3]
    with site_served(tmp_path, base=VALUES) as site:
        address = site.page.server.address
        with opened(browser, f"{address}#/events/{in_rain.id}", size=(360, 740), allowed=address) as it:
            detail = it.page.get_by_role("region", name="Event")
            detail.get_by_role("button", name="Wrong", exact=True).click()
            detail.get_by_role("button", name="Not this: keep such mistakes away").click()
            effect = detail.get_by_role("region", name="Effect of the veto")
            expect(effect).to_contain_text("1 gone, 3 as before, 0 new. (1 judged wrong)", timeout=120_000)
            assert it.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert serious_faults(it.page) == []
            assert site.get("control")["room"]["vetoes"] == []
            effect.get_by_role("button", name="Hold such events back").click()
            expect(detail).to_contain_text("Events like those that were marked wrong are held back.")
            assert site.get("control")["room"]["vetoes"] == ["bark"]
            view(it.page, "sounds")
            it.page.get_by_role("button", name="Look through the last 7 days").click()
            recurring = it.page.locator(".recurring li")
            expect(recurring).to_contain_text("Most like Knock", timeout=120_000)
            recurring.get_by_label("Call it").fill("Knocking")
            expect(recurring).to_contain_text('labels: ["Knock"')
            assert it.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
            assert serious_faults(it.page) == []
            it.page.get_by_role("button", name="Take it back").click()
            expect(it.page.get_by_text("are held back")).to_have_count(0)


def test_names_are_text(browser: Browser, tmp_path: Path) -> None:
    """Whatever somebody calls a source, no browser takes it for a part of the page."""
    fill(tmp_path, 3)
    name = "<img src=x onerror=alert(1)>"
    with site_served(tmp_path, name=name) as site, opened(browser, site.page.server.address) as it:
        for one in ("now", "events", "sounds"):
            view(it.page, one)
            expect(it.page.get_by_text(name).first).to_be_attached()
            assert it.page.locator("main img").count() == 0


def test_every_module_is_asked_for_at_once() -> None:
    """The page names all that it consists of, so that none waits until another has been read."""
    static = Path(__file__).parents[2] / "streamer/web/static"
    index = (static / "index.html").read_text(encoding="utf-8")
    modules = {path.relative_to(static).as_posix() for path in static.rglob("*.js")}
    assert set(re.findall(r'"static/(\S+\.js)"', index)) == modules


def test_no_address_of_others() -> None:
    """Nothing that the page consists of names another host."""
    static = Path(__file__).parents[2] / "streamer/web/static"
    for file in (*static.glob("*.js"), *static.glob("*.html"), *static.glob("*.css")):
        found = re.findall(r"https?://[^\s\"'`)]+", file.read_text(encoding="utf-8"))
        assert found == [], file.name


def test_a_threshold_is_tried(served: Served, browser: Browser) -> None:
    """What another would have done is shown, event by event, to a screen reader as well; nothing is set."""
    before = served.get("control")
    deadline = time.monotonic() + 90
    while not list(served.folder.rglob("*.scores")):  # a minute of scores is written at once
        assert time.monotonic() < deadline
        time.sleep(0.2)
    first = served.get("events?limit=200")["events"][-1]
    onset, offset = (datetime.fromisoformat(first[name]) for name in ("onset", "offset"))
    middle = (onset + (offset - onset) / 2).isoformat().replace("+00:00", "Z")
    why = served.get(f"explain?source=room&sound={first['sound']}&at={middle}")
    assert (why["events"], why["lines"][-1][0]) == ([first["id"]], "decided by")
    with opened(browser, f"{served.address}#/sounds", size=(360, 740)) as it:
        card = it.page.get_by_role("article", name="Smoke alarm")
        card.get_by_role("button", name="What would another threshold have done?").click()
        card.get_by_role("button", name=re.compile("^0.95: ")).click(timeout=60_000)
        card.get_by_role("button", name="Try it on the last 7 days").click()
        found = card.get_by_role("region", name="Tried at 0.95")
        expect(found).to_contain_text("With 0.95, the last 7 days:", timeout=60_000)
        for summary in card.locator("summary").all():
            summary.click()
        width = it.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0
        assert serious_faults(it.page) == []
    assert served.get("control") == before


def test_stopping_with_open_pages(served: Served, browser: Browser) -> None:
    """The last test of this file: neither a page nor streams that nobody reads keep the daemon."""
    host, port = served.address.removeprefix("http://").rstrip("/").split(":")
    with opened(browser, served.address) as it, ExitStack() as stack:
        expect(it.page.locator(".source")).to_be_visible()
        for _ in range(CLIENTS_MAX - 1):
            stream = stack.enter_context(socket.create_connection((host, int(port))))
            stream.sendall(f"GET /api/1/live?spectrum=here HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert stream.recv(12) == b"HTTP/1.1 200"
        assert served.daemon.stop(signal.SIGTERM) == 0
        it.faults.clear()
