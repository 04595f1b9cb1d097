"""Drift of new images, measured with an ImageNet CNN that was trained on none of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.project import paths
from pipeline.project.params import Params, load_params
from pipeline.retrain.decision import drift_objection
from pipeline.retrain.drift import measure_drift
from tests.conftest import ROOT, change_params
from tests.pipeline.retrain.toy import picture

TRAINING, NEW = 30, 16


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training images and new images of two categories: similar new images in `same`, darker ones in `dark`."""
    folder = tmp_path_factory.mktemp("drift")
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    change_params(folder, {"data": {"categories": ["same", "dark"]}, "compute": {"device": "cpu"}})
    rows = []
    for category, level in (("same", 100.0), ("dark", 60.0)):
        for number in range(TRAINING + NEW):
            new = number >= TRAINING
            path = f"images/{category}/{number}.png"
            picture(folder / paths.RAW / path, level if new else 100.0, number + 1000 * (category == "dark"))
            sha = f"{'new' if new else 'old'}-{category}-{number}"
            row = {"path": path, "source_sha256": sha, "category": category, "split": "train", "label": 0}
            rows.append({**row, "group": path})
    rows.append(
        {
            "path": "images/same/0.png",
            "source_sha256": "new-defect",
            "category": "same",
            "split": "test",
            "label": 1,
            "group": "",
        }
    )
    pd.DataFrame(rows).to_parquet(folder / paths.MANIFEST)
    return folder


@pytest.fixture(scope="module")
def params(project: Path) -> Params:
    return load_params(project / "params.yaml")


def digests(project: Path, *beginnings: str) -> list[str]:
    names = pd.read_parquet(project / paths.MANIFEST)["source_sha256"]
    return [name for name in names if name.startswith(beginnings)]


def test_darker_images_are_found_and_like_ones_are_not(project: Path, params: Params) -> None:
    found = measure_drift(project, params, digests(project, "new"))
    assert {category: result.drifted for category, result in found.items()} == {"same": False, "dark": True}
    assert (found["dark"].training, found["dark"].new) == (TRAINING, NEW)
    brightness = next(finding for finding in found["dark"].findings if finding.name == "brightness")
    assert brightness.found and brightness.effect is not None and brightness.effect < -3
    again = measure_drift(project, params, digests(project, "new"))
    assert {category: result.to_json() for category, result in again.items()} == {
        category: result.to_json() for category, result in found.items()
    }
    assert drift_objection(found, params) is None
    hold = params.model_copy(update={"retrain": params.retrain.model_copy(update={"on_drift": "hold"})})
    why = drift_objection(found, hold)
    assert why is not None and "of dark differ" in why
    assert drift_objection({"same": found["same"]}, hold) is None


def test_few_new_images_are_not_tested_and_defects_do_not_count(project: Path, params: Params) -> None:
    few = [*digests(project, "new-same")[:11], "new-defect"]
    found = measure_drift(project, params, few)
    assert list(found) == ["same"]
    assert found["same"].reason == "11 new good images, fewer than retrain.drift_least = 12"
    assert not found["same"].drifted
    assert measure_drift(project, params, ["new-defect"]) == {}


def test_new_images_are_not_their_own_reference(project: Path, params: Params) -> None:
    found = measure_drift(project, params, digests(project, "new-same"))
    assert np.isclose(found["same"].training, TRAINING)
