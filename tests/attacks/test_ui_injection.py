"""A table from a stranger may not act in the browser of whoever looks at what was made of it."""

import csv
from contextlib import contextmanager

import pytest
from playwright.sync_api import sync_playwright

from tests.assets.graph import Graph
from tests.bundle.chain import draw_pictures
from tests.e2e.place import Place, activate_file
from tests.e2e.test_ui import ask, serving

pytestmark = pytest.mark.e2e
BROWSER = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WIPE = 'mutation{wipeAssets(assetPartitionRanges:[{assetKey:{path:["images"]}}]){__typename}}'
HOSTILE = (
    f"![x](/graphql?query={WIPE})",
    f"| x | ![x](/graphql?query={WIPE}) |",
    "[click](http://attacker.example/)",
    "<img src=/graphql?query=x onerror=alert(1)>",
    "https://attacker.example/a.jpg",
    "www.attacker.example",
    "someone@attacker.example",
    "\\![x](/graphql?query=x)",
    "`**bold**`",
)
HISTORY = "{ assetNodes { assetKey { path } assetMaterializations { runId } } }"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A place where `images` was made of a CSV whose missing files have hostile names."""
    root = tmp_path_factory.mktemp("hostile")
    pictures = root / "pictures"
    draw_pictures(pictures)
    files = sorted(pictures.rglob("*.*"))
    rows = [
        (str(file.relative_to(pictures)), "Roadwork" if i % 2 else "None") for i, file in enumerate(files)
    ]
    with (pictures / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "label"), *rows, *((name, "None") for name in HOSTILE)])
    place = Place(root, pictures, activate_file(root))
    graph = Graph(root)
    config = {"csv": {"path": str(pictures / "list.csv")}, "max_quarantined_share": 0.5}
    result = graph.run("make_bundle", steps=("images",), config={"images": {"config": config}})
    assert result.success
    graph.instance.dispose()
    return place


@contextmanager
def page_of(address):
    """Open the events of `images`; give the page and the list of addresses that it asks for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER)
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/assets/images?view=events")
        yield page, asked
        browser.close()


def test_a_name_in_the_quarantine_is_text_on_the_page_and_wipes_nothing(place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    with serving(place, cwd=tmp_path / "elsewhere") as address:
        with page_of(address) as (page, asked):
            buttons = page.get_by_text("[Show Markdown]")
            buttons.first.wait_for(timeout=60_000)
            for number in range(buttons.count()):
                buttons.nth(number).click()
                page.wait_for_timeout(2000)
                page.keyboard.press("Escape")
                page.wait_for_timeout(500)
        history = {
            node["assetKey"]["path"][-1]: node["assetMaterializations"]
            for node in ask(address, HISTORY)["assetNodes"]
        }
    print(asked)
    assert history["images"], "the history was wiped"
    assert [url for url in asked if "query=" in url or "attacker" in url] == []
