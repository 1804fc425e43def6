"""Take the pictures of the README from the running UI, over what lies in the store now.

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

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULE = "streetvision_assets.definitions"
HERE = Path(__file__).parent
BROWSER = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGES = {
    "graph": "/asset-groups",
    "images": "/assets/images?view=events",
    "training": "/assets/phase1_checkpoint?view=events",
    "thresholds": "/assets/thresholds?view=events",
    "evaluation": "/assets/evaluation?view=events",
    "checks": "/assets/bundle?view=checks",
}


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


def shoot(page: Page, base: str, name: str, path: str) -> None:
    page.goto(base + path)
    page.wait_for_timeout(9000)  # the page draws itself in steps and has no sign of being ready
    page.screenshot(path=HERE / "pictures" / f"{name}.png")


def main() -> None:
    wanted = sys.argv[1:] or list(PAGES)
    (HERE / "pictures").mkdir(exist_ok=True)
    with running_ui() as base, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER)
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        for name in wanted:
            shoot(page, base, name, PAGES[name])
        browser.close()


if __name__ == "__main__":
    main()
