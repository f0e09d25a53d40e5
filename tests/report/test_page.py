"""The report: how the page shows what there is to tell, and how it behaves in a real browser."""

import re
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from bench.pictures import encoded, photo
from stages.classifier import scores
from stages.classifier.model.curves import Curve, Curves
from stages.classifier.model.grid import Rule, Trial
from stages.findings.finding import AuditMetrics, Finding
from stages.report import page as report
from stages.report.contents import Contents
from stages.report.figures import least_sure, surest_mistakes
from stages.report.findings import SAID, Honest, Kind, Plane, Section, Shown
from stages.report.pictures import Picture, thumbnail
from tests.browser import opened
from tests.classifier.made import chosen, featurizing

pytestmark = pytest.mark.xdist_group("report")

HOSTILE = [
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 2'>",
    '</script>"></svg><b onclick=hit()>',
    "{{ 7 * 7 }}",
]


@lru_cache
def jpeg(seed):
    return thumbnail(photo(seed, (300, 200)))


def contents(classes, per_class=8, epochs=6, seed=0, **changed):
    """Contents of a report, made up: the first class is always right."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(classes)), per_class)
    logits = rng.normal(0, 1, (len(labels), len(classes))).astype(np.float32)
    logits[np.arange(len(labels)), labels] += rng.uniform(0, 6, len(labels))
    logits[labels == 0, 0] += 20
    probabilities = scores.softmax(logits)
    shown = [*surest_mistakes(probabilities, labels), *least_sure(probabilities, labels)]
    found = scores.score([logits], labels)
    falling, rising = [2 / e for e in range(1, epochs + 1)], [1 - 0.5 / e for e in range(1, epochs + 1)]
    made = {
        "title": "made up",
        "metrics": scores.TestMetrics(images=len(labels), **found._asdict(), mean_class_accuracy=0.5, ece=0.0125),
        "classes": classes,
        "labels": labels,
        "probabilities": probabilities,
        "paths": [f"{classes[label]}/{row}.jpg" for row, label in enumerate(labels)],
        "root": Path("/photos"),
        "pictures": {row: Picture(jpeg(row % 4), jpeg(row % 4)) for row in shown},
        "curves": Curves(Curve(falling, falling), Curve(rising, rising), [0.5] * epochs),
        "kept": scores.Kept.of(max(1, epochs - 1), epochs, found, found),
        "trials": [Trial(Rule(0.01, 0.0), 2, 0.5, 0.5, None)],
        "chosen": chosen(),
        "refitted": False,
        "work": featurizing(),
        "origin": {"commit": "0123456789", "MXNet": "1.9.1"},
        "made_of": {"Data": {"data set": "digits"}, "Training": {"lr": "0.01"}},
        "audit": section(classes),
    }  # fmt: skip
    return Contents(**{**made, **changed})


def section(classes):
    """Of an audit that found two of each kind but conflicts, the second without a picture; ten points on the map."""
    kinds = []
    for kind, said in SAID.items():
        suggested, other = (classes[1] if kind == "label" else ""), ("" if kind == "outlier" else f"{classes[0]}/9.jpg")
        rows = [Finding(kind, f"{classes[0]}/{kind}{i}.jpg", classes[0], suggested, 0.75, other) for i in range(2)]
        shown = [Shown(rows[0], jpeg(0), jpeg(1) if other else None), Shown(rows[1], None, None)]
        kinds.append(Kind(kind, *said, *(([], []) if kind == "conflict" else (shown, [row.path for row in rows]))))
    counts = AuditMetrics(images=100, label=2, leak=2, conflict=0, duplicate=2, outlier=2, unconfirmed=3)
    points = [(i * 100, 1000 - i * 100, i % 2, 0 if i == 3 else -1, f"{classes[i % 2]}/{i}.jpg") for i in range(10)]
    dots = [""] * len(classes)
    for x, y, label, _, _ in points:
        dots[label] += f"M{x} {y}h0"
    tiles = encoded(photo(1, (50 * 32, 32)), "WEBP")
    plane = Plane(1000, dots, "M300 700h0", points, tiles, 50, 32, [0] * len(classes))
    return Section(counts, kinds, Honest(0.9, 90, 10), plane)


def written(folder, *args, **changed):
    path = folder / "report.html"
    report.write(path, contents(*args, **changed))
    return path


# The file.


def test_the_same_values_give_the_same_bytes(tmp_path):
    first = written(tmp_path, ["a", "b"]).read_bytes()
    assert written(tmp_path, ["a", "b"]).read_bytes() == first


def test_the_file_names_no_address(tmp_path):
    for classes in (["a", "b"], [f"c{i}" for i in range(40)]):
        page = written(tmp_path, classes).read_text()
        plain = re.sub(r"data:image/\w+;base64,[\w+/=]*", "", page).replace("// ", "")
        assert not re.findall(r"https?:|//[a-z]|url\(|@import", plain)
        assert "default-src 'none'" in page


def test_hostile_names_are_escaped(tmp_path):
    page = written(tmp_path, HOSTILE, made_of={HOSTILE[0]: {HOSTILE[1]: HOSTILE[2]}}).read_text()
    # The page's own, and what its map of the features shows.
    assert page.count("<script") == page.count("</script") == 2
    assert "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page


@pytest.mark.parametrize("epochs", [1, 2, 3, 500])
def test_any_number_of_epochs_is_drawn(tmp_path, epochs):
    page = written(tmp_path, ["a", "b"], epochs=epochs).read_text()
    assert page.count("<polyline") == 4
    assert not re.search(r"\bnan\b|\binf\b", page)


def test_each_epoch_of_a_chart_says_its_numbers(tmp_path):
    curve = Curve([0.5, 0.25], [1, 0.125])
    page = written(tmp_path, ["a", "b"], epochs=2, curves=Curves(curve, curve, [1, 1])).read_text()
    assert re.findall("<title>(epoch .*?)</title>", page)[:2] == [
        "epoch 1: train 0.5, valid 1",
        "epoch 2: train 0.25, valid 0.125",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.026, "0.03 s"), (56.42, "56.4 s"), (60, "1 min 0 s"), (725, "12 min 5 s"), (7800, "2 h 10 min")],
)
def test_durations_are_as_one_reads_them(value, text):
    assert report.seconds(value) == text


def test_mistakes_are_listed_whole_with_their_rows(tmp_path):
    made = contents(["a", "b"], per_class=60)
    page = written(tmp_path, ["a", "b"], per_class=60).read_text()
    wrong = {row for row, actual in enumerate(made.labels) if made.probabilities[row].argmax() != actual}
    listed = re.search(r"<pre [^>]*>(.*?)</pre>", page, re.DOTALL)[1].split()
    assert len(listed) == len(wrong) and set(listed) == {f"/photos/{made.paths[row]}" for row in wrong}
    shown = re.findall(r'class="path">(.*?)</span> <a href="predictions.csv#row=(\d+)">', page)
    # The first row is the heading.
    assert [path for path, _ in shown] == [made.paths[int(line) - 2] for _, line in shown] and len(shown) > 12


def test_the_data_set_is_named_on_top_with_what_the_page_comes_from(tmp_path):
    page = written(tmp_path, ["a", "b"], title="<b>photos").read_text()
    assert re.search(r"<h1>&lt;b&gt;photos: \d", page) and "<title>&lt;b&gt;photos: " in page
    assert "<div><dt>commit</dt> <dd>0123456789</dd></div><div><dt>MXNet</dt> <dd>1.9.1</dd></div>" in page


def test_what_featurize_spent_is_told_in_words(tmp_path):
    page = written(tmp_path, ["a", "b"]).read_text()
    spent = re.findall(r'<tr><td>(.*?)</td><td class="number">(.*?)</td><td><span class="bar"', page)
    assert spent == [
        ("reading the files", "0.25 s"),
        ("feature cache", "0.00 s"),
        ("decoding, all workers", "1 min 1 s"),
        ("waiting for the network, all workers", "3.00 s"),
    ]


def test_a_picture_that_is_not_at_hand_is_told_of_in_its_place(tmp_path):
    whole = contents(["a", "b"])
    pictures = dict(whole.pictures)
    first = next(iter(pictures))
    pictures[first] = None
    page = written(tmp_path, ["a", "b"], pictures=pictures, audit=None).read_text()
    assert page.count("the image is not on this machine") == 1
    assert page.count('src="data:image/jpeg;base64,') == 2 * (len(pictures) - 1)
    assert f'alt="{whole.paths[first]}"' not in page
    assert f">{whole.paths[first]}</span>" in page


# In a browser.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A ``tests.browser.Browser``; where there is no Chromium the test is skipped."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("there is no Chromium here: apt-get install chromium chromium-driver")
    with opened(chromium, chromedriver, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """The page of ten classes, one of them with a long name."""
    names = [*map(str, range(9)), "a rather long name of a class that goes on"]
    return written(tmp_path_factory.mktemp("few"), names)


@pytest.fixture(scope="module")
def dozen(tmp_path_factory):
    """The page of twelve classes with names of two words."""
    return written(tmp_path_factory.mktemp("dozen"), [f"american-{i} backpack" for i in range(12)], per_class=25)


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    """The page of as many classes as are shown by a table."""
    return written(tmp_path_factory.mktemp("thirty"), [f"class number {i}" for i in range(report.TABLE_CLASSES)])


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The page of 257 classes with thirty images each, as Caltech-256 has."""
    names = [f"{i:03}.{'long-' * (i % 5)}name" for i in range(1, 258)]
    return written(tmp_path_factory.mktemp("many"), names, per_class=30, epochs=40)


def test_257_classes_fit_into_two_megabytes(many):
    assert many.stat().st_size < 2_000_000


def test_nothing_is_shown_that_the_console_would_complain_about(browser, few, many):
    for page in (few, many):
        browser.open(page)
        assert browser.complaints() == []


def test_no_request_leaves_the_page(browser, few, many):
    for page in (few, many):
        browser.open(page)
        assert [url for url in browser.requests() if not url.startswith("data:")] == [page.as_uri()]


def test_every_thumbnail_is_shown(browser, few):
    browser.open(few)
    assert browser.run("return [...document.images].filter(i => i.complete && i.naturalWidth).length") == len(
        browser.all("img")
    )
    assert len(browser.all("img")) > 12


@pytest.mark.parametrize("width", [320, 360, 768, 1920])
def test_the_page_is_never_wider_than_the_screen(browser, few, many, width):
    for page in (few, many):
        browser.open(page, width)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        # No card's contents stick out of it either.
        out = """return [...document.querySelectorAll(".card > *")].filter(
            e => e.getBoundingClientRect().right > e.parentNode.getBoundingClientRect().right + 1).length"""
        assert browser.run(out) == 0


@pytest.mark.parametrize("width", [360, 390, 1200, 1440])
def test_what_does_not_fit_scrolls_visibly(browser, dozen, thirty, width):
    state = """return Object.fromEntries([...document.querySelectorAll(".scroll")].map(e => [e.ariaLabel,
        [e.scrollWidth > e.clientWidth + 1, getComputedStyle(e).maskImage !== "none"]]))"""
    for page, fits in ((dozen, ["Confusion matrix", "Most frequent confusions"]), (thirty, [])):
        browser.open(page, width)
        found = browser.run(state)
        assert all(wide == faded for wide, faded in found.values()), found
        assert not any(found[name][0] for name in fits)
    # So many classes do not fit on a phone; at the end nothing is faded any more.
    assert found["Confusion matrix"][0] == (width < 600)
    browser.run("document.querySelector('.scroll').scrollLeft = 10000")
    browser.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert not browser.run(state)["Confusion matrix"][1]


def column(browser, number):
    return browser.texts(f"#classes tbody td:nth-child({number})")


def test_a_heading_sorts_and_sorts_back(browser, few):
    browser.open(few)
    accuracy = [float(text.split("\u202f")[0]) for text in column(browser, 2)]
    assert accuracy == sorted(accuracy)
    assert accuracy[0] < accuracy[-1] == 100
    heading = browser.all("#classes th")[1]
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text.split("\u202f")[0]) for text in column(browser, 2)] == accuracy[::-1]


def test_names_sort_by_the_keyboard_alone(browser, many):
    browser.open(many)
    browser.run("document.querySelector('#classes th button').focus()")
    for key, order in (("\ue007", 1), (" ", -1)):
        browser.driver.switch_to.active_element.send_keys(key)
        names = column(browser, 1)
        assert names == sorted(names)[::order]
    assert [e.get_attribute("aria-sort") for e in browser.all("#classes th[aria-sort]")] == ["descending"]


def test_a_class_is_found_by_part_of_its_name(browser, many):
    browser.open(many)
    browser.all("#find")[0].send_keys("17.")
    assert sorted(e.text[:4] for e in browser.all("#classes tbody tr") if e.is_displayed()) == ["017.", "117.", "217."]


def test_the_map_zooms_and_says_what_is_under_the_pointer(browser, many):
    browser.open(many)
    before = browser.all("#matrix")[0].size["width"]
    whole = browser.all("#map")[0].size
    assert before <= min(whole["width"], whole["height"])
    assert not browser.all(".names")[0].is_displayed()
    browser.run("zoom.value = 10; zoom.dispatchEvent(new Event('input'))")
    assert browser.all("#matrix")[0].size["width"] == pytest.approx(10 * before, rel=0.01)
    assert browser.all(".names")[0].is_displayed()

    browser.all("#matrix")[0].send_keys("\ue015\ue015\ue014")  # down, down, right
    assert browser.texts("#said")[0].startswith("003.long-long-long-name taken for 002.long-long-name: ")
    browser.run("""const box = matrix.getBoundingClientRect(), cell = box.width / 257;
        matrix.dispatchEvent(new PointerEvent("pointermove",
            {clientX: box.left + 0.5 * cell, clientY: box.top + 0.5 * cell, bubbles: true}))""")
    assert browser.texts("#said") == ["001.long-name recognised: 30 of 30 images (100.0 %)"]


def test_the_matrix_of_few_classes_shows_the_numbers(browser, few):
    browser.open(few)
    assert browser.texts(".matrix tbody tr:first-of-type td") == ["8", *[""] * 9]
    assert len(browser.all(".matrix td")) == 1 + 10 * 10


CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgb = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return canvas.getImageData(0, 0, 1, 1).data;
};
const light = (colour) => [...rgb(colour)].slice(0, 3).map((v) => v / 255)
  .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const ground = (e) => {
  const colour = getComputedStyle(e).backgroundColor;
  return rgb(colour)[3] || !e.parentElement ? colour : ground(e.parentElement);
};
const least = {};
for (const e of document.querySelectorAll("body *")) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.matches("script, title")) continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(e.ownerSVGElement ? style.fill : style.color), light(ground(e))].sort((x, y) => y - x);
  const name = e.tagName + "." + (e.getAttribute("class") ?? "");
  least[name] = Math.min(least[name] ?? 21, (a + .05) / (b + .05));
}
return least;
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_text_has_the_contrast_that_wcag_asks_for(browser, few, dark):
    browser.open(few, dark=dark)
    found = browser.run(CONTRAST)
    assert len(found) > 10
    assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


def test_night_is_dark_and_day_is_light(browser, few):
    colours = []
    for dark in (False, True):
        browser.open(few, dark=dark)
        colours.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    day, night = (sum(map(int, re.findall(r"\d+", colour))) for colour in colours)
    assert day > 3 * 200
    assert night < 3 * 50


@pytest.mark.parametrize("more", [0, 40], ids=["few", "many"])
def test_hostile_names_do_nothing_but_show(browser, tmp_path, more):
    names = [*HOSTILE, *(f"c{i}" for i in range(more))]
    browser.open(written(tmp_path, names))
    assert browser.run("return window.hit ?? null") is None
    assert browser.complaints() == []
    assert not browser.all("b[onclick]")
    assert set(HOSTILE) <= set(column(browser, 1))
    browser.all("#classes th button")[0].click()
    assert set(HOSTILE) <= set(column(browser, 1))


def test_what_the_audit_found_is_shown_with_its_twins(browser, few):
    browser.open(few)
    assert browser.texts("#honest") == ["Top-1 with the 10 leaked test images left out: 90.0\u202f%"]
    # Two of each kind but conflicts, of which there are none.
    assert len(browser.all(".found")) == 4 and len(browser.all(".found li")) == 8
    assert len(browser.all(".found img")) == 3 * 2 + 1 and len(browser.all(".found .gone")) == 3 * 2 + 1
    assert "0 looks like 1 0.75" in browser.texts(".found li p")[0]
    assert "python -m stages.audit --write-groups groups.csv" in browser.texts("#audit ~ p code")
    assert browser.complaints() == []


@pytest.mark.parametrize("width", [390, 1200])
def test_the_map_tells_what_lies_under_the_pointer_and_by_the_arrow_keys(browser, few, width):
    browser.open(few, width=width)
    plane = browser.all("#plane")[0]
    assert browser.run("return document.documentElement.scrollWidth") <= width
    browser.run("arguments[0].scrollIntoView({block: 'center'})", plane)
    browser.run(POINT, plane, 300, 700)
    assert browser.texts("#told") == ["1, taken for 0: 1/3.jpg"]
    # The fourth tile of the sheet.
    assert browser.run("return parseFloat(document.querySelector('.tile img').style.left)") < 0
    assert [e.get_attribute("data-label") for e in browser.all(".dots:not(.faded)")] == ["1"]
    plane.send_keys("\ue014")
    assert browser.texts("#told") == ["0: 0/4.jpg"]
    assert browser.complaints() == []
    assert all(address.startswith(("file:", "data:")) for address in browser.requests())


POINT = """
const [plane, x, y] = arguments, box = plane.getBoundingClientRect(), scale = box.width / 1060;
const at = { clientX: box.left + (x + 30) * scale, clientY: box.top + (y + 30) * scale, bubbles: true };
plane.dispatchEvent(new PointerEvent("pointermove", at));
"""


def test_without_an_audit_there_is_no_section(tmp_path):
    page = written(tmp_path, ["a", "b"], audit=None).read_text()
    assert "The data" not in page and 'id="plane"' not in page
