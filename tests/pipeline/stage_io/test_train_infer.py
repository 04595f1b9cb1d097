"""Stages `train` and `infer` of a small project: whose model says what of which image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.project import paths
from pipeline.project.params import Params, load_params
from pipeline.stage_io.download import download
from pipeline.stage_io.infer import infer
from pipeline.stage_io.inputs import inputs
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.samples import samples_of
from pipeline.stage_io.saving import load_fitted
from pipeline.stage_io.train import train
from pipeline.stage_io.validation_results import RESULTS_FILE, load_results, save_results
from stages.array_store import StoredRows
from stages.detectors.pca import detector
from stages.types import ScoreMap, UserError


def run(fit_on: str) -> Params:
    drawn = {"source": "synthetic", "categories": ["tile"], "synthetic": {"normals": 120, "defects": 4, "side": 32}}
    content = {"data": drawn, "detectors": ["pca"], "compute": {"device": "cpu"}}
    paths.PARAMS.write_text(yaml.safe_dump(content | {"pca": {"image_side": 32, "fit_on": fit_on}}))
    params = load_params()
    download(params)
    inputs(params)
    train(params, "tile", "pca")
    infer(params, "tile", "pca")
    return params


def judged(params: Params) -> tuple[pd.DataFrame, StoredRows, list[ScoreMap]]:
    """What `infer` wrote, and what the model that `train` wrote says of the same images."""
    manifest, config = read_manifest(), params.detector("pca")
    rows = rows_of(manifest, "tile", "validation", "test")
    samples = samples_of(manifest, rows, config, frozenset(), "cpu")
    fitted, _ = load_fitted(paths.model("tile", "pca"))
    folder = paths.maps("tile", "pca")
    return (
        pd.read_parquet(folder / "scores.parquet"),
        StoredRows(folder / "maps.zarr"),
        list(detector.score(fitted, samples, config, "cpu")),
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_validation_images_keep_what_they_got_before_the_model_learnt_from_them(project: Path) -> None:
    alone = judged(run("train"))
    assert not (paths.model("tile", "pca") / RESULTS_FILE).exists()
    table, maps, says = judged(run("train_and_validation"))
    held_out = (table["split"] == "validation").to_numpy()
    assert 0 < held_out.sum() < len(table)
    assert (table["path"] == alone[0]["path"]).all()
    for i, known in enumerate(held_out):
        own = (alone[2] if known else says)[i]  # the model of training images, or the one that judges others
        other = (says if known else alone[2])[i]
        assert table["image_score"].iloc[i] == own.image_score != other.image_score
        assert maps[i].tobytes() == own.anomaly_map.tobytes() != other.anomaly_map.tobytes()


@pytest.mark.parametrize("gone", [False, True])
def test_a_model_without_results_of_the_validation_images_is_refused(project: Path, gone: bool) -> None:
    params = run("train_and_validation")
    before = (paths.maps("tile", "pca") / "scores.parquet").read_bytes()
    manifest = read_manifest()
    held_out = np.flatnonzero(manifest["split"] == "validation")
    if gone:
        (paths.model("tile", "pca") / RESULTS_FILE).unlink()
    else:
        manifest.loc[held_out[0], "sha256"] = "0" * 64
        manifest.to_parquet(paths.MANIFEST)
    missing = len(held_out) if gone else 1
    message = f"lacks results of {missing} of {len(held_out)} validation images, so stage train@tile-pca is out of date"
    with pytest.raises(UserError, match=message):
        infer(params, "tile", "pca")
    assert (paths.maps("tile", "pca") / "scores.parquet").read_bytes() == before


def test_each_validation_image_keeps_its_own_whatever_the_order(project: Path) -> None:
    params = run("train_and_validation")
    folder, manifest = paths.maps("tile", "pca"), read_manifest()
    before = pd.read_parquet(folder / "scores.parquet").set_index("sha256")["image_score"]
    manifest.iloc[::-1].reset_index(drop=True).to_parquet(paths.MANIFEST)
    infer(params, "tile", "pca")
    after = pd.read_parquet(folder / "scores.parquet").set_index("sha256")["image_score"]
    assert list(after.index) == list(before.index[::-1])
    assert (after == before[after.index]).all()


def test_what_is_kept_comes_back_however_it_lay_in_memory(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    items = [
        {
            "image_score": np.asarray(generator.random()),
            "maps": generator.random((2, 3), np.float32),
            "picture_restoration": generator.integers(0, 255, (3, 4, 5), np.uint8).transpose(1, 2, 0),
            "picture_mask": generator.random((4, 4)).astype(np.float16),
        }
        for _ in range(3)
    ]
    ids = [f"{i:064x}" for i in range(3)]
    save_results(tmp_path / RESULTS_FILE, ids, items)
    found = load_results(tmp_path / RESULTS_FILE)
    assert list(found) == ids
    for one, item in zip(found.values(), items, strict=True):
        assert one.keys() == item.keys()
        for name, values in item.items():
            assert one[name].dtype == values.dtype
            assert np.array_equal(one[name], values), name
