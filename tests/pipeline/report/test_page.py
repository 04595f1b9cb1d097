"""The whole stage on projects of many shapes, and the page in a browser."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.project.params import load_params
from pipeline.report.run_facts import HEAD, TAIL
from pipeline.stage_io.report import report
from tests.browser import Browser
from tests.pipeline.report.toy import EVIL, SHAPES

CHECK = """(() => {
  const faults = [];
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth || !image.alt) faults.push('image ' + image.alt);
  for (const link of document.links) {
    const target = link.getAttribute('href');
    if (!target.startsWith('#') || !document.getElementById(target.slice(1))) faults.push('link ' + target);
  }
  const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
  if (new Set(ids).size !== ids.length) faults.push('an id twice');
  return faults;
})()"""


PLAIN = {
    *("alt", "aria-hidden", "aria-label", "charset", "class", "content", "cx", "cy", "d", "height", "http-equiv", "id"),
    *("lang", "name", "open", "r", "role", "scope", "style", "tabindex", "viewbox", "width", "x", "y"),
}
"""Attributes that load nothing."""
Projects = Callable[[str], Path]


def page_of(project: Path) -> Path:
    return project / "data/report/index.html"


def addresses(page: Path) -> list[tuple[str, str]]:
    """(attribute, value) of everything that can make a browser load something."""
    found: list[tuple[str, str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend((name, value or "") for name, value in attrs if name not in PLAIN)

    Reader().feed(page.read_text())
    return found


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(browser: Browser, project_of_shape: Projects, name: str, width: int) -> None:
    with browser.open(page_of(project_of_shape(name)), width=width, dark=width == 390) as page:
        assert page.evaluate(CHECK) == []
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]
        assert page.evaluate("document.images.length") > 3
        assert (page.errors, page.failed, page.requests) == ([], [], [page_of(project_of_shape(name)).as_uri()])


def test_links_open_what_is_folded(browser: Browser, project_of_shape: Projects) -> None:
    with browser.open(page_of(project_of_shape("whole"))) as page:
        page.evaluate("document.querySelector('a[href=\"#c0-cases\"]').click()")
        assert page.evaluate("Math.abs(document.getElementById('c0-cases').getBoundingClientRect().top) < 40")


def test_light_and_dark(browser: Browser, project_of_shape: Projects) -> None:
    shown = []
    for dark in (False, True):
        with browser.open(page_of(project_of_shape("one baseline")), dark=dark) as page:
            shown.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert shown == ["rgb(245, 246, 248)", "rgb(17, 22, 27)"]


def test_all_is_on_paper(browser: Browser, project_of_shape: Projects) -> None:
    """Collapsed parts are expanded when printed, and the table of contents is left out."""
    heights = "['#parameters details', 'nav'].map(selector => document.querySelector(selector).offsetHeight)"
    with browser.open(page_of(project_of_shape("whole")), printed=True) as page:
        opened, navigation = page.evaluate(heights)
        assert opened > 500
        assert navigation == 0
    with browser.open(page_of(project_of_shape("whole"))) as page:
        assert page.evaluate("document.querySelector('#parameters details').offsetHeight") < 60


def test_names_of_users_are_text(browser: Browser, project_of_shape: Projects) -> None:
    assert EVIL not in page_of(project_of_shape("whole")).read_text()
    with browser.open(page_of(project_of_shape("whole"))) as page:
        shown = page.evaluate("document.body.textContent")
        assert f"{EVIL}.png" in shown
        assert f"type {EVIL}&" in shown


def test_the_body_is_the_same_bytes_twice(project_of_shape: Projects, tmp_path: Path) -> None:
    project = tmp_path / "elsewhere"
    shutil.copytree(project_of_shape("whole"), project)
    (project / "data/logs").mkdir(exist_ok=True)
    (project / "data/logs/score.time.json").write_text('{"seconds": 1, "finished": "2026-01-01T00:00:00+00:00"}')
    first = (project / "data/report/body.html").read_bytes()
    with contextlib.chdir(project):
        report(load_params())
    assert (project / "data/report/body.html").read_bytes() == first
    assert page_of(project).read_bytes() != page_of(project_of_shape("whole")).read_bytes()
    assert first.count(HEAD.encode()) == first.count(TAIL.encode()) == 1
    assert str(tmp_path).encode() not in first


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_is_loaded_from_elsewhere(project_of_shape: Projects, name: str) -> None:
    page = page_of(project_of_shape(name))
    found = addresses(page)
    assert {attribute for attribute, _ in found} == {"href", "src"}
    assert all(value.startswith(("#", "data:image/webp;base64,")) for _, value in found)
    assert not re.search("<script|url\\(|@import", page.read_text())


def test_numbers_are_those_of_the_metrics(project_of_shape: Projects) -> None:
    text = page_of(project_of_shape("whole")).read_text()
    metrics = json.loads((project_of_shape("whole") / "data/metrics/metrics.json").read_text())["plate"]
    for name, values in metrics.items():
        assert f"{values['threshold']:.4g}" in text, name
        assert f"{values['pixel_auroc']:.3f}" in text, name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no good", "No ROC curve: no normal images in the test split"),
        ("no good", "The share of near-duplicates is not known"),
        ("no bad", "There are no defects among the test images"),
        ("no threshold", "There are no thresholds: no good validation images"),
        ("no threshold", "Positional leakage is not known"),
        ("two", "No defect has a mask that can be used"),
        ("one baseline", "The detectors are not fused"),
        ("one baseline", "There is one type, dent (1 image)"),
    ],
)
def test_what_is_missing_is_explained(project_of_shape: Projects, name: str, text: str) -> None:
    assert text in page_of(project_of_shape(name)).read_text()
