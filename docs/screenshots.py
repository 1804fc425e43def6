"""Take the images of the README from the running UI, over what lies in the store now.

Usage: python docs/screenshots.py  (after make bundle; needs Debian's chromium)
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, sync_playwright

from streetvision_core.io import ArtifactStore, default_store

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = "streetvision_assets.definitions"
IMAGES = Path(__file__).parent / "images"
BROWSER = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# The images that are shown, of those that the page of their asset hides at first.
SHOWN = {
    "phase1_checkpoint": "training_curve",
    "scrc": "risk_by_confidence",
    "evaluation": "mistakes",
}
EVENTS = "/assets/{}?view=events"


@contextlib.contextmanager
def running_ui() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    dagster = Path(sys.executable).with_name("dagster")
    command = [str(dagster), "dev", "-m", MODULE, "--host", "127.0.0.1", "--port", str(port)]
    # See activate.sh: the servers refuse the variable beside what they are handed.
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_MODULE_NAME"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            base = f"http://127.0.0.1:{port}"
            wait_for(f"{base}/server_info")
            yield base
        finally:
            server.terminate()


def wait_for(url: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.5)
    raise TimeoutError(f"nothing answered at {url}")


def settle(page: Page) -> None:
    page.wait_for_timeout(8000)  # a page draws itself in steps and has no sign of being ready


def shoot_graph(page: Page, base: str) -> None:
    page.goto(f"{base}/asset-groups")
    settle(page)
    page.keyboard.press("Alt+e")  # expand all groups
    settle(page)
    page.screenshot(path=IMAGES / "graph.png", clip={"x": 545, "y": 440, "width": 1250, "height": 1330})


def shoot_events(page: Page, base: str, asset: str, metadata: str) -> None:
    """Photograph a materialization with one of its images opened."""
    page.goto(base + EVENTS.format(asset))
    settle(page)
    row = page.locator("tr").filter(has=page.get_by_text(metadata, exact=True))
    row.get_by_text("[Show Markdown]").last.click()
    page.wait_for_timeout(1500)
    page.screenshot(path=IMAGES / f"{asset}_{metadata}.png")


def shoot_report(page: Page) -> None:
    """Photograph the upper part of the newest report."""
    report = ArtifactStore(default_store()).resolve("evaluation").path("report.html")
    page.goto(report.resolve().as_uri())
    page.screenshot(
        path=IMAGES / "report.png", clip={"x": 0, "y": 0, "width": 1240, "height": 1500}, full_page=True
    )


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with running_ui() as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER)
        shoot_graph(browser.new_page(viewport={"width": 1840, "height": 1890}), base)
        page = browser.new_page(viewport={"width": 1440, "height": 780})
        for asset, metadata in SHOWN.items():
            shoot_events(page, base, asset, metadata)
        shoot_report(browser.new_page(viewport={"width": 1240, "height": 1500}))
        browser.close()


if __name__ == "__main__":
    main()
