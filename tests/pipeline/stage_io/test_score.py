"""What `infer` keeps of EAR's images and `score` says of them, in a small project whose stages have run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.project import paths
from pipeline.project.params import load_params
from pipeline.stage_io.rows import read_manifest
from pipeline.stage_io.samples import samples_of
from pipeline.stage_io.saving import load_fitted
from pipeline.stage_io.score import _other_scores
from stages.array_store import StoredRows
from stages.detectors.ear import detector
from stages.images import decode_mask

KINDS = ("attention", "rarity_clean", "rarity_raw")


@pytest.fixture
def maps(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(finished)
    return paths.maps("tile", "ear")


@pytest.fixture
def details(maps: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((paths.METRICS_DIR / "details.json").read_text())["tile"]["ear"]
    return found


def test_coverage_is_that_of_the_image_with_a_mask(maps: Path, details: dict[str, Any]) -> None:
    """At equal area: a mask that is too small is filled up as if at random, one that is too large thinned out."""
    table = pd.read_parquet(maps / "scores.parquet")
    (row,) = np.flatnonzero(table["mask_path"] != "")
    assert table["path"][row].endswith("bad0.png")
    truth = decode_mask((paths.RAW / table["mask_path"][row]).read_bytes())
    side = len(truth)
    room = load_params().ear.mask_fraction * side**2
    assert set(details["mask_coverage"]) == set(KINDS)
    for kind in KINDS:
        mask = StoredRows(maps / f"picture_mask_{kind}.zarr")[int(row)] > 0.5
        under = np.array(
            [[mask[y * len(mask) // side, x * len(mask) // side] for x in range(side)] for y in range(side)]
        )
        cut, left = under.sum(), side**2 - under.sum()
        inside, outside = min(1.0, room / cut), max(0.0, (room - cut) / left)
        expected = (inside * (under & truth).sum() + outside * (~under & truth).sum()) / truth.sum()
        assert details["mask_coverage"][kind] == pytest.approx(expected)


def test_the_other_scores_are_judged_on_the_test_images(maps: Path, details: dict[str, Any]) -> None:
    table = pd.read_parquet(maps / "scores.parquet")
    test = table[table["split"] == "test"]
    names = {"max", "mean", *(f"score_{kind}" for kind in KINDS)}
    assert set(details["image_auroc_of"]) == names
    for name in names:
        expected = roc_auc_score(test["label"], test[f"extra_{name}"])
        assert details["image_auroc_of"][name] == pytest.approx(expected, abs=1e-6)


def test_the_other_scores_of_validation_images_do_not_count() -> None:
    table = pd.DataFrame({"split": ["test"] * 3 + ["validation"], "label": [0, 0, 1, 0], "extra_max": [1.0, 3, 2, 9]})
    assert _other_scores(table) == {"image_auroc_of": {"max": 0.5}}


def test_the_pictures_of_each_test_image_are_the_detectors(maps: Path) -> None:
    table, manifest, config = pd.read_parquet(maps / "scores.parquet"), read_manifest(), load_params().ear
    rows = np.array([int(np.flatnonzero(manifest["sha256"] == sha)[0]) for sha in table["sha256"]])
    samples = samples_of(manifest, rows, config, detector.needs(config), "cpu")
    fitted, _ = load_fitted(paths.model("tile", "ear"))
    shown = 0
    for i, one in enumerate(detector.score(fitted, samples, config, "cpu")):
        assert set(one.pictures) == {"tokens", "restoration", "mask", *(f"mask_{kind}" for kind in KINDS)}
        if table["split"][i] == "test":
            for name, picture in one.pictures.items():
                np.testing.assert_array_equal(StoredRows(maps / f"picture_{name}.zarr")[i], picture)
            shown += len(np.unique(one.pictures["restoration"])) > 1
    assert shown == (table["split"] == "test").sum()


def test_the_report_shows_what_ear_made_of_each_case(maps: Path) -> None:
    page = (paths.REPORT / "index.html").read_text()
    for name in ("bad0.png", "bad1.png", "n3.png"):
        for what in ("anomaly map", "computed mask", "restoration"):
            assert f'alt="{what} of {name}"' in page
