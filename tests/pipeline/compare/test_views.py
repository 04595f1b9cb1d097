"""A comparison on the terminal, in Markdown and as HTML."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pipeline.compare import formatting
from pipeline.compare.diff import Diff, compare_sides
from pipeline.compare.gate import find_breaches
from pipeline.compare.markdown import diff_as_markdown
from pipeline.compare.page import diff_as_html
from pipeline.compare.sides import Side
from pipeline.compare.terminal import print_diff
from pipeline.project.gate_rules import Rule
from tests.pipeline.compare import toy


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Side, Side]:
    """B has a better `knn` and an identical `pca`; its images are on disk."""
    root = tmp_path_factory.mktemp("project")
    table = toy.manifest(60, 60)
    runs = toy.run(0.5, 0, table), toy.run(2.0, 1, table, params={"knn": {"k": 5}, "a|b": "<i>`x`"}, pictures=True)
    toy.write_run(root, runs[1])
    return toy.side(runs[0], "A"), toy.side(runs[1], "workspace", root=root, notes=("read <b>with care</b>",))


def terminal(diff: Diff, **options: object) -> str:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    print_diff(diff, console, **options)  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_figures_in_words() -> None:
    assert formatting.format_value("image_auroc", 0.9087) == "0.909"
    assert formatting.format_value("escape_rate", 0.2204) == "22.0%"
    assert formatting.format_change("image_auroc", -0.0041) == "-0.004"
    assert formatting.format_change("overkill_rate", 0.0128) == "+1.3 pp"
    assert formatting.format_interval("escape_rate", (-0.0301, 0.004)) == "[-3.0, +0.4]"
    assert (
        formatting.format_value("image_auroc", None)
        == formatting.format_change("escape_rate", None)
        == formatting.format_interval("aupro", None)
        == "–"
    )
    assert (formatting.format_p_value(0.0004), formatting.format_p_value(0.0314)) == ("<0.001", "0.031")


def test_terminal(sides: tuple[Side, Side]) -> None:
    diff = compare_sides(*sides, resamples=100)
    text = terminal(diff, limit=3)
    assert re.search(r"knn +AUROC +0\.\d{3} +0\.\d{3} +\+0\.\d{3} +\[\+0\.\d{3}, \+0\.\d{3}\] +<0\.001 better", text)
    assert "the same on both sides: tile/pca" in text
    assert "knn.k: 1 -> 5" in text and "data: the same 128 images" in text
    assert "read <b>with care</b>" in text
    assert len(re.findall(r"images/tile-test", text)) == 3
    assert f"and {len(diff.flips) - 3} more" in text
    only = terminal(diff, detectors=["pca"])
    assert "AUROC" not in only and "tile/pca" in only and "flips: no decision changed" in only


def test_terminal_says_why(sides: tuple[Side, Side]) -> None:
    lost = toy.side(toy.run(table=toy.manifest(60, 60)), "old", predictions={}, problems={"predictions": "all gone"})
    text = terminal(compare_sides(lost, sides[1]))
    assert "A has no predictions: all gone" in text
    assert "all detectors: predictions of A: all gone" in text
    assert "no interval" in text
    assert "flips: not known: no test image has predictions on both sides" in text


def test_detectors_of_one_side_are_a_line_and_no_rows() -> None:
    a, b = toy.run(), toy.run(seed=1)
    fewer = toy.Run(a.manifest, {key: values for key, values in a.scores.items() if key[1] == "pca"})
    diff = compare_sides(toy.side(fewer), toy.side(b), resamples=100)
    area = next(row.b for row in diff.rows if (row.detector, row.metric) == ("knn", "image_auroc"))
    for text in (terminal(diff), diff_as_markdown(diff)):
        assert f"tile/knn (AUROC {area:.3f}): only in B" in " ".join(text.split())
    assert "knn" not in {row.detector for row in formatting.rows_to_show(diff.rows)}
    assert formatting.headline_verdicts(diff) == ["tile/knn: only in B, so it cannot be compared"]


def test_markdown(sides: tuple[Side, Side]) -> None:
    diff = compare_sides(*sides, resamples=100)
    breaches = find_breaches(diff, Rule.parse("tile/knn:image_auroc<=0"))
    text = diff_as_markdown(diff, limit=2, breaches=breaches)
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("| tile/knn")]
    assert "<br>**better**" in table[0]
    columns = next(line for line in lines if line.startswith("| | AUROC")).count("|")
    assert table[0].count("|") == columns
    assert "**Gate: violated**" in text and "which violates tile/knn:image_auroc&lt;=+0" in text
    assert "no rule is violated" in diff_as_markdown(diff, breaches=[])
    assert "Gate" not in diff_as_markdown(diff)
    assert "&lt;b>with care" in text  # text of users is escaped
    assert f"and {len(diff.flips) - 2} more" in text
    assert text.count("<details>") == text.count("</details>") == 1


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.pictures.append(found["src"] or "")
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page(sides: tuple[Side, Side]) -> None:
    diff = compare_sides(*sides, resamples=100)
    text = diff_as_html(diff, *sides, limit=4)
    found = Page(text)
    assert not found.open
    assert len(found.pictures) == 4
    for link in found.links:  # nothing is loaded from elsewhere
        assert link.startswith("data:image/jpeg;base64,")
    assert "http" not in text and "<script" not in text
    picture = Image.open(io.BytesIO(base64.b64decode(found.pictures[0].partition(",")[2])))
    original = Image.open(sides[1].root / "data/raw" / diff.flips[0].path).convert("RGB")
    assert picture.size == original.size
    assert np.abs(np.asarray(picture, float) - np.asarray(original, float)).mean() < 10
    assert diff.flips[0].path in text and f"{diff.flips[0].score_b:.4g}" in text
    assert "&lt;b&gt;with care" in text
    assert f"The worst 4 of {len(diff.flips)}" in text


def test_page_without_the_images(sides: tuple[Side, Side]) -> None:
    lost = toy.side(toy.run(2.0, 1, toy.manifest(60, 60)), "workspace", root=Path("nowhere"))
    text = diff_as_html(
        compare_sides(sides[0], lost, resamples=100), toy.side(toy.run(), "workspace", root=Path("nowhere")), lost
    )
    assert Page(text).pictures == []
    assert "the image file cannot be read" in text
