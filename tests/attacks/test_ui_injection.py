"""A table from a stranger may not act in the browser of whoever looks at what was made of it."""

import csv
import json
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import PurePosixPath

import dagster as dg
import pytest
from playwright.sync_api import sync_playwright

from streetvision_assets.checks import Verdict
from streetvision_core.escape import JOINER
from tests.assets.graph import Graph
from tests.bundle.chain import draw_images
from tests.e2e.place import Place, activate_file
from tests.e2e.serving import ask, serving

pytestmark = [pytest.mark.e2e, pytest.mark.long]
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
    draw_images(pictures)
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
    words = Verdict(HOSTILE, good="").result().description
    graph.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            dg.AssetKey("images"), "lineage", passed=False, metadata={}, description=words
        )
    )
    graph.instance.dispose()
    return place


@contextmanager
def opened(address, view="?view=events"):
    """Open a page of `images` in a browser; give it and the addresses that it asks for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER)
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/assets/images{view}")
        yield page, asked
        browser.close()


def history(address):
    """Return how often `images` was materialized, as Dagster remembers."""
    (images,) = [
        node["assetMaterializations"]
        for node in ask(address, HISTORY)["assetNodes"]
        if node["assetKey"]["path"] == ["images"]
    ]
    return len(images)


def fetch(address, **options):
    """Return the status of a request."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, **options), timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def address(place, tmp_path_factory):
    with serving(place, cwd=tmp_path_factory.mktemp("elsewhere")) as served:
        yield served


def test_a_name_in_the_quarantine_is_text_on_the_page_and_wipes_nothing(address):
    with opened(address) as (page, asked):
        buttons = page.get_by_text("[Show Markdown]")
        buttons.first.wait_for(timeout=60_000)
        for number in reversed(range(buttons.count())):
            buttons.nth(number).click()
            page.wait_for_timeout(2000)  # for as long as an image would take to be asked for
            page.keyboard.press("Escape")
        table = page.locator("table:has(> thead)")
        names = table.locator("tbody tr td:first-child").all_inner_texts()
        acting = table.locator("a, img, strong, em, code, iframe").count()
    assert [url for url in asked if "query=" in url or "attacker" in url] == []
    assert history(address) == 1
    assert {name.replace(JOINER, "") for name in names} == {str(PurePosixPath(name)) for name in HOSTILE}
    assert acting == 0


def test_a_problem_that_a_check_tells_of_is_text_on_its_page(address):
    with opened(address, "?view=checks&checkDetail=lineage") as (page, asked):
        page.get_by_text("Execution history").click(timeout=60_000)
        page.get_by_text("(/graphql?query=mutation").first.wait_for(timeout=60_000)
        page.wait_for_timeout(2000)
        assert page.locator("table :is(img, strong, code), a[href*=attacker]").count() == 0
    assert [url for url in asked if "query=" in url or "attacker" in url] == []


def test_no_mutation_comes_by_an_address(address):
    query = urllib.parse.urlencode({"query": WIPE})
    for options in ({}, {"data": b"", "method": "POST"}, {"headers": {"Accept": "image/*"}}):
        assert fetch(f"{address}/graphql?{query}", **options) == 403
    assert history(address) == 1


def test_no_page_from_elsewhere_is_answered(address):
    body = json.dumps({"query": WIPE}).encode()
    # What a page may send without asking first: this type of content needs no permission.
    simple = {"Content-Type": "text/plain; x=application/json"}
    for headers in (
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ):
        assert fetch(f"{address}/graphql", data=body, headers=simple | headers) == 403
    framed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    assert fetch(address, headers=framed) == 403
    assert history(address) == 1


def test_no_other_host_name_is_answered(address):
    port = address.rpartition(":")[2]
    for host in ("attacker.example", f"attacker.example:{port}", "127.0.0.1.attacker.example", ""):
        assert fetch(f"{address}/server_info", headers={"Host": host}) == 400
    assert fetch(f"{address}/server_info", headers={"Host": f"localhost:{port}"}) == 200


def test_a_link_from_elsewhere_can_be_followed(address):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert fetch(f"{address}/assets/images", headers=link) == 200
