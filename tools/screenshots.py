"""Pictures of the page for its documentation: `make screenshots`, while a daemon serves it."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, expect, sync_playwright

SIZES = {"desktop": (1280, 800), "phone": (390, 800)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
EVENT = 12
"""of the list, the newest is 0: one whose scores are on the disk"""
SOUND, TRIED = "Doorbell", "0.90"
"""of the recording that is played without a microphone: some of its events would be gone"""
TRIAL_MS = 300_000
WAIT_MS = 20_000
"""until sounds of the recording are in the spectrogram, and their scores below it"""
SOUNDING_MS = 60_000
"""until something sounds"""


def main(address: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for scheme in SCHEMES:
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(address)
                page.wait_for_timeout(WAIT_MS)
                for view in ("now", "events", "sounds", "health"):
                    _show(page, address, view)
                    page.screenshot(path=folder / f"{view}-{size}-{scheme}.png")
                if (size, scheme) == ("desktop", "light"):
                    _show_trial(page, address, folder / "trial.png")
                    _show_teaching(page, address, folder / "teach.png")
                page.close()
        browser.close()


def _show(page: Page, address: str, view: str) -> None:
    page.goto(f"{address}#/{view}")
    page.wait_for_timeout(1500)
    if view == "now":
        page.locator(".pulse").first.wait_for(timeout=SOUNDING_MS)
        page.wait_for_timeout(1500)
    if view == "events":
        page.locator(".entry").nth(EVENT).click()
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(1000)


def _show_trial(page: Page, address: str, path: Path) -> None:
    """What a higher threshold would have done."""
    page.goto(f"{address}#/sounds")
    card = page.get_by_role("article", name=SOUND)
    card.get_by_role("button", name="What would another threshold have done?").click()
    card.get_by_role("button", name=re.compile(f"^{TRIED}: ")).click(timeout=TRIAL_MS)
    card.get_by_role("button", name="Try it on").click()
    card.locator("section.trial").wait_for(timeout=TRIAL_MS)
    for summary in card.locator("section.trial summary").all():
        summary.click()
    card.screenshot(path=path)


def _show_teaching(page: Page, address: str, path: Path) -> None:
    """A stretch of what was just heard is chosen as an example of a sound; nothing is kept."""
    page.goto(f"{address}#/now")
    latest = page.locator("section", has_text="Last events").locator("li").first
    expect(latest).to_contain_text(SOUND, timeout=TRIAL_MS)
    page.get_by_role("button", name="This is …").click()
    dialog = page.get_by_role("dialog", name="This is …")
    dialog.get_by_label("What it is called").fill("our_doorbell")
    onset, offset = page.evaluate(
        """async () => {
            const [event] = (await (await fetch("api/1/events?limit=1")).json()).events;
            const { begin } = document.querySelector("st-example");
            return [event.onset, event.offset].map((at) => Date.parse(at) / 1000 - begin);
        }"""
    )
    dialog.get_by_role("slider", name="From").fill(f"{onset - 0.5:.1f}")
    dialog.get_by_role("slider", name="To").fill(f"{offset + 0.5:.1f}")
    dialog.get_by_role("checkbox").check()
    dialog.screenshot(path=path)
    page.keyboard.press("Escape")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
