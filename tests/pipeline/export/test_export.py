"""`export` in a small project with two detectors and their fusion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.export.command import export
from pipeline.project import paths
from pipeline.project.params import Params, load_params
from pipeline.stage_io.download import download
from pipeline.stage_io.fuse import fuse_detectors
from pipeline.stage_io.infer import infer
from pipeline.stage_io.inputs import inputs
from pipeline.stage_io.rows import ImageFiles, read_manifest
from pipeline.stage_io.saving import load_fitted, save_fitted
from pipeline.stage_io.train import train
from stages.array_store import StoredRows, write_rows
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.load import load
from stages.denoise.config import DenoiserConfig
from stages.denoise.denoiser import apply_denoiser, train_denoiser
from stages.fusion.fusion import fit_knots
from stages.fusion.members import FUSION
from stages.onnx_graphs.convert import arrays_runner, runner
from stages.training import Session
from stages.types import UserError
from tests.conftest import TINY, tiny_images

NAMES = ("pca", "knn")
THRESHOLDS = {"pca": 0.1, "knn": None, "fused": 0.5}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose stages have run, up to `fuse`, with a small backbone and denoiser."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny_images(paths.DATA / "own")
        content = {"data": TINY["data"], "detectors": list(NAMES), "compute": {"device": "cpu"}}
        content |= {
            "pca": {"image_side": 32},
            "knn": {"memory_size": 50, "compare_features": False, "features": "clean"},
        }
        content["fused"] = {"detectors": list(NAMES)}
        paths.PARAMS.write_text(yaml.safe_dump(content))
        params = load_params()
        download(params)
        features()
        inputs(params)
        for name in NAMES:
            train(params, "tile", name)
            infer(params, "tile", name)
        fuse_detectors(params)
        paths.METRICS_DIR.mkdir()
        paths.METRICS.write_text(
            json.dumps({"tile": {name: {"threshold": value} for name, value in THRESHOLDS.items()}})
        )
    return folder


def features() -> None:
    """Write what the stages from `pretrain` to `clean_features` write."""
    manifest = read_manifest()
    images = ImageFiles.from_manifest(manifest, np.arange(len(manifest)), 32)[:]
    config = BackboneConfig(model="plain", image_side=32, crop_side=32, patch=8, width=16, heads=2, depth=1, steps=0)
    backbone = build(config, images[:4], images[4:], 0, Session())
    extracted = load(backbone, "cpu").extract(images)
    raw = extracted.tokens.astype(np.float16)  # (N, 4, 4, 16)
    denoiser = train_denoiser(raw, raw + np.float16(0.5), DenoiserConfig(epochs=1, heads=2), 0)
    clean = apply_denoiser(denoiser, "cpu")(raw.astype(np.float32)).astype(np.float16)
    for store, tokens in ((paths.FEATURES, raw), (paths.CLEAN, clean)):
        store.mkdir(parents=True)
        write_rows(store / "tokens.zarr", tokens, len(tokens))
    save_fitted(paths.BACKBONE, backbone)
    save_fitted(paths.DENOISER, denoiser)


@pytest.fixture
def params(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(finished)
    return load_params()


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_each_member_is_normalized_by_its_own_maps(params: Params) -> None:
    fitted, _ = load_fitted(paths.model("tile", FUSION))
    assert fitted.info["side"] == 32  # the maps of pca; those of knn are 4 x 4
    for name in NAMES:
        folder = paths.maps("tile", name)
        rows = np.flatnonzero(pd.read_parquet(folder / "scores.parquet")["split"] == "validation")
        pixels = np.concatenate([StoredRows(folder / "maps.zarr")[int(i)].reshape(-1) for i in rows])
        np.testing.assert_array_equal(fitted.arrays[f"{name}.map"], fit_knots(pixels.astype(np.float64)))


@pytest.mark.long
def test_what_is_written_gives_the_scores_of_the_stages(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the image files to the fused score, with the exported files only."""
    capsys.readouterr()
    export(params, out=tmp_path)
    assert capsys.readouterr().out.count("same decisions") == 2  # knn has no threshold
    names = ("backbone", *(f"tile/{name}" for name in THRESHOLDS))
    assert files(tmp_path) == {f"{name}.{kind}" for name in names for kind in ("onnx", "json")}
    backbone = arrays_runner((tmp_path / "backbone.onnx").read_bytes())
    run = {name: runner((tmp_path / f"tile/{name}.onnx").read_bytes()) for name in THRESHOLDS}
    table = {name: pd.read_parquet(paths.maps("tile", name) / "scores.parquet") for name in THRESHOLDS}
    manifest = read_manifest()
    for i, (sha, split) in enumerate(zip(table["fused"]["sha256"], table["fused"]["split"], strict=True)):
        if split == "validation":  # scored by the training-only model
            continue
        row = int(np.flatnonzero(manifest["sha256"] == sha)[0])
        given = {
            "pca": {"image": ImageFiles.from_manifest(manifest, np.array([row]), 32)[:]},
            "knn": {"clean": backbone({"image": ImageFiles.from_manifest(manifest, np.array([row]), 32)[:]})["clean"]},
        }
        found = {name: run[name](given[name]) for name in NAMES}
        members: dict[str, Any] = {f"{name}_map": result.anomaly_map for name, result in found.items()}
        members |= {f"{name}_score": np.array(result.image_score, np.float32) for name, result in found.items()}
        found["fused"] = run["fused"](members)
        for name, result in found.items():
            assert result.image_score == pytest.approx(table[name]["image_score"][i], rel=1e-3)
            stored = StoredRows(paths.maps("tile", name) / "maps.zarr")[i]
            np.testing.assert_allclose(result.anomaly_map, stored, atol=1e-3 * float(np.ptp(stored)))


def test_without_test_images_validation_images_are_scored_both_ways(params: Params, tmp_path: Path) -> None:
    whole = paths.MANIFEST.read_bytes()
    manifest = read_manifest()
    try:
        manifest.assign(split=manifest["split"].replace("test", "validation")).to_parquet(paths.MANIFEST)
        export(params, ["tile"], ["pca"], tmp_path)
    finally:
        paths.MANIFEST.write_bytes(whole)
    description = json.loads((tmp_path / "tile/pca.json").read_text())
    assert description["parity"]["images"] == (manifest["split"] != "train").sum() == 4


def test_the_json_file_describes_use_and_origin(params: Params, tmp_path: Path) -> None:
    export(params, ["tile"], ["knn"], tmp_path)
    assert files(tmp_path) == {f"{name}.{kind}" for name in ("backbone", "tile/knn") for kind in ("onnx", "json")}
    description, backbone = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("tile/knn", "backbone"))
    assert backbone["weights"] == description["upstream"]
    assert [(tensor["name"], tensor["shape"]) for tensor in backbone["inputs"]] == [("image", [1, 32, 32, 3])]
    tokens, attention = [1, 4, 4, 16], [1, 2, 4, 4]
    assert [(tensor["name"], tensor["shape"]) for tensor in backbone["outputs"]] == [
        *(("raw", tokens), ("clean", tokens), ("attention", attention))
    ]
    assert backbone["parity"]["images"] == 3
    assert 0 <= max(backbone["parity"][name] for name in ("raw", "clean", "attention")) <= backbone["tolerance"]
    assert [(tensor["name"], tensor["shape"], tensor["type"]) for tensor in description["inputs"]] == [
        ("clean", [1, 4, 4, 16], "float32")
    ]
    assert "denoiser" in description["inputs"][0]["meaning"]
    assert [(tensor["name"], tensor["shape"]) for tensor in description["outputs"]] == [
        ("anomaly_map", [4, 4]),
        ("image_score", []),
    ]
    assert description["threshold"] is None
    assert description["parity"]["images"] == 3
    assert max(description["parity"]["scores"], description["parity"]["maps"]) <= description["tolerance"] == 1e-3
    assert description["sha256"] == hashlib.sha256((tmp_path / "tile/knn.onnx").read_bytes()).hexdigest()
    assert set(description["upstream"]) == {"backbone", "denoiser"}
    assert description["parameters"]["memory_size"] == 50
    assert "commit" in description["provenance"]


@pytest.mark.long
def test_beyond_the_tolerance_no_file_stays(params: Params, tmp_path: Path) -> None:
    export(params, [], ["pca"], tmp_path)
    export(params, [], ["knn"], tmp_path)
    message = r"tile pca: not exported.*1e-12.*tile knn: not exported.*backbone: not exported"
    with pytest.raises(UserError, match=message) as fault:
        export(params, [], NAMES, tmp_path, tolerance=1e-12)
    assert "\n" not in str(fault.value)
    assert files(tmp_path) == set()


def test_unknown_names_are_refused(params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"detector 'gabor'; params.yaml has pca, knn, fused"):
        export(params, [], ["gabor"], tmp_path)
    with pytest.raises(UserError, match=r"category 'disk'; params.yaml has tile"):
        export(params, ["disk"], [], tmp_path)


def test_parameters_that_changed_since_training_are_refused(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = {"params": {"params.yaml": {"pca": {"image_side": 64}}}}
    lock = Path("dvc.lock")
    lock.write_text(yaml.safe_dump({"stages": {"train@tile-pca": stage}}))
    try:
        with pytest.raises(UserError, match=r"section pca .* changed since tile pca was trained"):
            export(params, [], ["pca"], tmp_path)
    finally:
        lock.unlink()


@pytest.mark.parametrize("missing", [paths.METRICS, paths.model("tile", "knn"), paths.MANIFEST, paths.BACKBONE])
def test_a_stage_that_has_not_run_is_named(params: Params, tmp_path: Path, missing: Path) -> None:
    away = missing.rename(missing.with_name("away"))
    try:
        with pytest.raises(UserError, match=rf"{missing}.*run `burnish run` first"):
            export(params, [], ["knn"], tmp_path)
    finally:
        away.rename(missing)
