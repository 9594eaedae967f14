"""Pictures of the page for its documentation: `make screenshots`, while a daemon serves it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Literal

from playwright.sync_api import Page, sync_playwright

SIZES = {"desktop": (1280, 800), "phone": (390, 800)}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
EVENT = 12
"""of the list, the newest is 0: one whose scores are on the disk"""
WAIT_MS = 9000
"""until sounds of the recording are in the spectrogram"""


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
                page.close()
        browser.close()


def _show(page: Page, address: str, view: str) -> None:
    page.goto(f"{address}#/{view}")
    page.wait_for_timeout(1500)
    if view == "events":
        page.locator(".entry").nth(EVENT).click()
        page.wait_for_timeout(1000)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
