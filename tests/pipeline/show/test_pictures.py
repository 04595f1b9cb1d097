"""ROC curves, histograms and galleries: rows by hand, the same bytes twice, and what changes a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.show import curves, galleries

SCORES = np.array([4.0, 3, 2, 2, 1])
LABELS = np.array([1, 0, 1, 0, 0])


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def roc_curves() -> list[curves.RocCurve]:
    rows = curves.roc_rows(SCORES, LABELS)
    return [curves.RocCurve("ear", rows, 0.75, [0.6, 0.9]), curves.RocCurve("pca", rows, 0.7, None, is_baseline=True)]


def cases(pictures: bool) -> list[galleries.Case]:
    generator = np.random.default_rng(0)
    made = []
    for i in range(2):
        image = generator.integers(0, 255, (16, 16, 3)).astype(np.uint8)
        mask = generator.random((8, 8)) > 0.5
        further = {"mask": mask, "restoration": image} if pictures and i == 0 else {}
        made.append(galleries.Case(image, generator.random((8, 8)).astype(np.float16), f"case {i}\nscore {i}", further))
    return made


def test_roc_rows_by_hand() -> None:
    assert curves.roc_rows(SCORES, LABELS) == [
        {"fpr": 0.0, "tpr": 0.0, "threshold": None},
        {"fpr": 0.0, "tpr": 0.5, "threshold": 4.0},
        {"fpr": 0.333333, "tpr": 0.5, "threshold": 3.0},
        {"fpr": 0.666667, "tpr": 1.0, "threshold": 2.0},
        {"fpr": 1.0, "tpr": 1.0, "threshold": 1.0},
    ]
    assert curves.roc_rows(SCORES, np.zeros(5)) == []


def test_roc_rows_are_at_most_200() -> None:
    generator = np.random.default_rng(0)
    assert len(curves.roc_rows(generator.normal(size=3000), generator.integers(0, 2, 3000))) <= 200


def test_histogram_rows_by_hand() -> None:
    rows = curves.histogram_rows(np.array([0.0, 1.0, 1.0, 4.0]), np.array([0, 0, 1, 1]), bins=2)
    assert rows == [
        {"score": 1.0, "kind": "normal", "count": 2, "share": 1.0},
        {"score": 3.0, "kind": "normal", "count": 0, "share": 0.0},
        {"score": 1.0, "kind": "defect", "count": 1, "share": 0.5},
        {"score": 3.0, "kind": "defect", "count": 1, "share": 0.5},
    ]
    equal = curves.histogram_rows(np.full(3, 2.0), np.array([0, 0, 1]))
    assert sum(row["count"] for row in equal) == 3
    assert curves.histogram_rows(np.array([]), np.array([])) == []


def test_rows_are_written_as_json(tmp_path: Path) -> None:
    curves.write_rows(curves.roc_rows(SCORES, LABELS), tmp_path / "roc.json")
    assert json.loads((tmp_path / "roc.json").read_text())[0] == {"fpr": 0.0, "tpr": 0.0, "threshold": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        curves.write_rows([{"fpr": float("nan")}], tmp_path / "nan.json")


def test_pictures_are_the_same_bytes_twice(tmp_path: Path) -> None:
    rendered: list[list[bytes]] = []
    for turn in ("a", "b"):
        folder = tmp_path / turn
        folder.mkdir()
        curves.render_roc(roc_curves(), "mono", folder / "roc.png")
        curves.render_score_histogram(SCORES, LABELS, 2.5, "mono, ear", folder / "scores.png")
        galleries.render_gallery(cases(pictures=True), "mono, ear", folder / "cases.png")
        rendered.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert rendered[0] == rendered[1]
    assert len(set(rendered[0])) == 3
    for data in rendered[0]:
        assert b"matplotlib" not in data.lower()


def test_threshold_and_baseline_change_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "one.png"

    def scores(threshold: float | None) -> bytes:
        curves.render_score_histogram(SCORES, LABELS, threshold, "mono, ear", path)
        return path.read_bytes()

    def roc(is_baseline: bool) -> bytes:
        curves.render_roc(
            [curves.RocCurve("pca", curves.roc_rows(SCORES, LABELS), 0.75, None, is_baseline)], "mono", path
        )
        return path.read_bytes()

    assert len({scores(None), scores(2.5), scores(3.5)}) == 3
    assert roc(True) != roc(False)


def test_a_gallery_grows_with_cases_and_pictures(tmp_path: Path) -> None:
    path = tmp_path / "cases.png"
    galleries.render_gallery(cases(pictures=False), "t", path)
    without_pictures = size(path)
    galleries.render_gallery(cases(pictures=True), "t", path)
    assert size(path)[0] > without_pictures[0]
    galleries.render_gallery(cases(pictures=False)[:1], "t", path)
    assert size(path)[1] < without_pictures[1]


def test_an_empty_plot_is_still_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    galleries.render_gallery([], "t", path)
    assert size(path)[0] > 100
    curves.render_roc([], "t", path)
    assert size(path)[0] > 100
    curves.render_score_histogram(np.array([]), np.array([]), None, "t", path)
    assert size(path)[0] > 100
    curves.render_score_histogram(np.full(3, 2.0), np.zeros(3), 2.0, "one class, equal scores", path)
    flat = galleries.Case(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8)), "flat map")
    galleries.render_gallery([flat], "t", path)
    assert size(path)[0] > 100


def test_importing_the_room_imports_neither_matplotlib_nor_torch() -> None:
    modules = ", ".join(f"pipeline.show.{name}" for name in ("curves", "denoising", "galleries", "tables"))
    code = f"import sys, {modules}; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
