"""The report for people: one page that holds everything, loads nothing, and trusts no name it shows."""

import importlib.util
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from streetvision_core.report.pages import (
    MISTAKES_SHOWN,
    PAGE_NAME,
    draw_report,
    policy_rows,
    slice_rows,
    write_page,
)
from streetvision_core.report.report import report_of
from tests.bundle.made import GreyPictures, decide_all, make_picture, make_policies, make_tested

EVIL = '<script>window.hurt = 1</script>"\'&<img src=x onerror="window.hurt = 1">'
CHROMIUM = Path("/usr/bin/chromium")
PLOTS = {
    "plots/confusion_matrix.png", "plots/mistakes.jpg", "plots/precision_recall.png",
    "plots/net_benefit.png", "plots/prevalence.png", "plots/reliability.png", "plots/risk_coverage.png",
    "plots/roc.png",
}  # fmt: skip


MODEL = {"model": "a network, weights SHA-256 0123"}
# No element is wider than the window, and none has to be scrolled in itself.
NOTHING_CLIPPED = """
[...document.querySelectorAll("body *")].every(
  box => box.getBoundingClientRect().right <= window.innerWidth + 1 && box.scrollWidth <= box.clientWidth + 1
    || getComputedStyle(box).display.startsWith("inline") || box.tagName == "THEAD" || box.closest("thead"))
"""


@pytest.fixture(scope="module")
def policies():
    return make_policies()


def drawn(policies, *, labels=None, name="street", value="night", n=200):
    """Draw the report of n images, a third of each group, by day and by `value`."""
    groups = [f"{name} group {number // 3}" for number in range(n)]
    attributes = {"time": [value if number % 3 else "day" for number in range(n)]}
    tested = make_tested(groups=groups, attributes=attributes, labels=labels)
    pictures = [
        make_picture(f"{name} {number}.jpg", int(label), group=groups[number])
        for number, label in enumerate(tested.labels)
    ]
    decided = decide_all(policies, tested)
    report = report_of(tested, decided)
    return tested, decided, report, draw(tested, decided, report, pictures)


def draw(tested, decided, report, pictures):
    return draw_report(tested, decided, report, pictures, model=MODEL, images=GreyPictures())


@pytest.fixture(scope="module")
def plain(policies):
    return drawn(policies)


@pytest.fixture(scope="module")
def page(plain):
    return plain[3][PAGE_NAME].decode()


class Reader(HTMLParser):
    """Collects the tags and their attributes, the text, and the cells of each row."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.rows = [], [], []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        self.in_cell = tag in ("td", "th") or (self.in_cell and tag in ("br", "span"))
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text.append(data)
        if self.in_cell:
            self.rows[-1][-1] += data.strip()


def test_the_page_refers_to_nothing_outside_itself(page):
    own = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", own)
    read = Reader(page)
    for tag, attributes in read.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
        assert not {name for name in attributes if name.startswith("on")} | attributes.keys() & {"href"}
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/")
    assert sum(tag == "img" for tag, _ in read.tags) == len(PLOTS) - 1 + MISTAKES_SHOWN


def test_its_own_policy_forbids_scripts_and_everything_that_would_be_loaded(page):
    (policy,) = [
        attributes["content"]
        for tag, attributes in Reader(page).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    parts = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    assert parts == {"default-src": ["'none'"], "img-src": ["data:"], "style-src": ["'unsafe-inline'"]}
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_names_of_images_groups_attributes_and_values_are_shown_and_never_run(policies):
    groups = [EVIL] * 60
    tested = make_tested(
        groups=groups, attributes={EVIL: [EVIL] * 60, f"{EVIL} too": list(map(str, range(60)))}
    )
    pictures = [
        make_picture(f"{EVIL}{number}", int(label), group=EVIL) for number, label in enumerate(tested.labels)
    ]
    decided = decide_all(policies, tested)
    report = report_of(tested, decided)
    assert report.not_sliced == (f"{EVIL} too",)
    page = draw(tested, decided, report, pictures)[PAGE_NAME].decode()
    read = Reader(page)
    assert "<script" not in page
    assert 'onerror="' not in page
    assert not [tag for tag, attributes in read.tags if tag == "script" or attributes.get("src") == "x"]
    shown = "".join(read.text)
    assert shown.count(EVIL) >= 5
    assert f"{EVIL} too" in shown


def test_every_plot_is_a_file_and_is_in_the_page(plain, page):
    files = plain[3]
    assert set(files) == {PAGE_NAME, *PLOTS}
    for name in PLOTS:
        with Image.open(BytesIO(files[name])) as image:
            image.verify()
            assert image.format == ("JPEG" if name.endswith(".jpg") else "PNG")


def test_the_page_shows_what_each_policy_promises_and_how_it_does(plain, page):
    report, text = plain[2], " ".join(" ".join(Reader(page).text).split())
    for kind, policy in report.policies.items():
        assert " ".join(policy.promise.split()) in text
        (row,) = [row for row in Reader(page).rows if row and row[0] == kind]
        assert row[1] == str(policy.coverage.answered)
        assert f"{policy.metrics['mcc']:.3f}" in row[3]
        assert f"{policy.intervals.mcc.low:.3f} to {policy.intervals.mcc.high:.3f}" in row[3]


def test_the_tables_of_the_ui_say_the_same_as_the_report(plain):
    report = plain[2]
    rows = policy_rows(report)
    assert [row["policy"] for row in rows] == list(report.policies)
    for row in rows:
        policy = report.of(row["policy"])
        for name, value, interval in (
            ("coverage", policy.coverage.share, policy.coverage.interval),
            ("MCC", policy.metrics["mcc"], policy.intervals.mcc),
            ("missed (FNR)", policy.metrics["fnr"], policy.intervals.fnr),
        ):
            assert row[name] == f"{value:.3f} ({interval.low:.3f} to {interval.high:.3f})"
    for row, part in zip(slice_rows(report), report.of("threshold").slices, strict=True):
        (other,) = [
            other for other in report.of("scrc").slices
            if (other.attribute, other.value) == (row["attribute"], row["value"])
        ]  # fmt: skip
        assert (row["n"], row["misses"], row["false alarms"]) == (
            part.n, part.metrics["fn"], part.metrics["fp"],
        )  # fmt: skip
        assert row["scrc"] == f"{other.answered} answered, {other.metrics['fp'] + other.metrics['fn']} wrong"


def test_mistakes_are_large_one_a_group_and_the_most_confident_comes_first(plain, page):
    tested, decided, _, _ = plain
    folded = decided["threshold"].policy.point.fold(tested.logits)
    margins = folded[:, 1] - folded[:, 0]
    wrong = [number for number in range(len(margins)) if (margins[number] > 0) != tested.labels[number]]
    ordered = sorted(wrong, key=lambda number: -abs(margins[number]))
    one_a_group = list({tested.groups[number]: number for number in reversed(ordered)}.values())
    expected = sorted(one_a_group, key=ordered.index)[:MISTAKES_SHOWN]
    assert len(wrong) > len(one_a_group) > MISTAKES_SHOWN
    captions = re.findall(r'alt="A mistake: (.*?)">\s*<figcaption>(.*?)</figcaption>', page, re.DOTALL)
    assert [name for name, _ in captions] == [f"street {number}.jpg" for number in expected]
    for (_, caption), number in zip(captions, expected, strict=True):
        assert f"label <strong>{'roadwork' if tested.labels[number] else 'none'}</strong>" in caption
        further = sum(tested.groups[other] == tested.groups[number] for other in wrong) - 1
        assert (f"{further} more of this group" in caption) == (further > 0)


def test_the_top_of_the_page_says_which_model_and_which_data(page):
    top = page[page.index("<body>") : page.index("<h2>")]
    assert MODEL["model"] in top
    assert "200 images of val_test, 67 groups" in top
    assert "manifest.json" in top


@pytest.mark.parametrize(
    ("n", "words"), [(200, "Intervals are over 67 groups"), (60, "Few groups: 20, of which")]
)
def test_the_page_says_what_the_intervals_are_over_and_where_they_are_rough(policies, n, words):
    page = " ".join(drawn(policies, n=n)[3][PAGE_NAME].decode().split())
    assert words in page
    assert "perfect calibration would give 0." in page
    assert page.count("not recorded") == 0


def test_without_a_mistake_the_page_says_that_there_is_none(policies):
    tested, decided, _, _ = drawn(policies)
    right = replace(tested, labels=decided["threshold"].answers(tested))
    pictures = [make_picture(str(number), int(label)) for number, label in enumerate(right.labels)]
    files = draw(right, decided, report_of(right, decided), pictures)
    assert "There are none." in files[PAGE_NAME].decode()
    assert "plots/mistakes.jpg" not in files


@pytest.mark.parametrize("label", [True, False])
def test_images_of_one_class_draw_no_roc_and_no_precision_recall_curve(policies, label):
    _, _, _, files = drawn(policies, labels=[label] * 50, n=50)
    assert PLOTS - set(files) == {
        "plots/roc.png", "plots/precision_recall.png", "plots/prevalence.png",
    }  # fmt: skip
    assert b'alt="roc.png"' not in files[PAGE_NAME]
    assert b"AUROC" not in files[PAGE_NAME]


def test_a_policy_that_answers_nothing_has_a_page_that_says_so():
    _, _, report, files = drawn(make_policies(alpha=0.0001))
    assert set(files) == {PAGE_NAME, *PLOTS}
    (row,) = [row for row in policy_rows(report) if row["policy"] == "scrc"]
    assert (row["coverage"][:5], row["MCC"], row["accuracy"]) == ("0.000", "no answers", "no answers")
    (shown,) = [row for row in Reader(files[PAGE_NAME].decode()).rows if row and row[0] == "scrc"]
    assert shown[3:7] == ["no answers"] * 4
    roadwork = report.counts.roadwork
    text = "".join(Reader(files[PAGE_NAME].decode()).text)
    assert f"scrc: Of {roadwork} images with roadwork it answers 0 (0.0%) and defers {roadwork}." in text
    alone = {"policies": {"scrc": report.of("scrc")}, "calib_minus_test": None}
    report = report.model_copy(update=alone)
    page = write_page(report, plots={}, mistakes=[], identity=MODEL)
    assert "<strong>no answers</strong>it defers every image" in page
    assert not re.search(r"<strong>0.000</strong>(MCC|accuracy)", page)
    assert all(row["MCC"] == "no answers" for row in slice_rows(report))
    assert report.figures().keys() == {"tp", "tn", "fp", "fn", "scrc_coverage"}


def test_the_same_report_is_the_same_bytes(policies, plain):
    assert drawn(policies)[3] == plain[3]


needs_browser = pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason="chromium or playwright is not installed: that a browser shows the report was NOT tested",
)


@needs_browser
@pytest.mark.e2e
@pytest.mark.parametrize("name", ["street", EVIL], ids=["plain", "evil"])
def test_a_browser_shows_the_page_without_an_error_and_asks_the_network_for_nothing(policies, tmp_path, name):
    from playwright.sync_api import sync_playwright

    path = tmp_path / PAGE_NAME
    path.write_bytes(drawn(policies, name=name, value=name)[3][PAGE_NAME])
    faults, asked = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        shown.on("console", lambda message: faults.append(message.text))
        shown.on("pageerror", lambda error: faults.append(str(error)))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(path.as_uri(), wait_until="load")
        widths = shown.eval_on_selector_all("img", "all => all.map(image => image.naturalWidth)")
        fits = []
        for width in (390, 700, 1280, 1500):
            shown.set_viewport_size({"width": width, "height": 900})
            fits.append(shown.evaluate(NOTHING_CLIPPED))
        mistakes = shown.eval_on_selector_all(".mistakes img", "all => all.map(image => image.clientWidth)")
        hurt = shown.evaluate("typeof window.hurt")
        browser.close()
    assert faults == []
    assert [url for url in asked if not url.startswith("data:image/")] == [path.as_uri()]
    assert len(widths) == len(PLOTS) - 1 + MISTAKES_SHOWN
    assert min(widths[: len(PLOTS) - 1]) > 300
    assert min(mistakes) > 250
    assert fits == [True] * 4
    assert hurt == "undefined"
