"""The bundle: its content, that it is always complete, and when it is made again."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.bundle import writer
from pipeline.bundle.layout import INDEX
from pipeline.bundle.reader import Bundle, differences, open_bundle
from pipeline.bundle.writer import is_current, make_bundle
from pipeline.project import paths
from pipeline.stage_io.saving import load_fitted
from stages.array_store import StoredRows
from stages.types import UserError
from tests.conftest import change_params
from tests.pipeline.bundle.helpers import params_of, rewritten, sha256


def burnish(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_it_contains_models_parameters_and_thresholds(finished: Path, bundle: Bundle) -> None:
    metrics = json.loads((finished / "data/metrics/metrics.json").read_text())
    assert bundle.params == params_of(finished)
    assert bundle.categories == ("tile",)
    assert bundle.detectors == ("ear", "knn", "pca", "fused")
    assert bundle.members("tile", "fused") == ("ear", "knn")
    assert bundle.index["metrics"] == metrics
    for name in bundle.detectors:
        values = metrics["tile"][name]
        expected = {"value": values["threshold"], "note": values["threshold_note"]}
        assert bundle.index["thresholds"]["tile"][name] == expected
        check_same(bundle.fitted(writer.model_part("tile", name)), finished / paths.model("tile", name))
    check_same(bundle.fitted("backbone"), finished / "data/backbone")
    check_same(bundle.fitted("denoiser"), finished / "data/models/denoiser")
    files = [path for path in bundle.folder.rglob("*") if path.is_file() and path.name != INDEX]
    assert {str(path.relative_to(bundle.folder)): sha256(path) for path in files} == bundle.index["files"]


def check_same(found: Any, folder: Path) -> None:
    expected, _ = load_fitted(folder)
    assert (found.info, found.metrics) == (expected.info, expected.metrics)
    assert set(found.arrays) == set(expected.arrays)
    assert all(np.array_equal(found.arrays[name], value) for name, value in expected.arrays.items())


def test_it_records_its_origin(finished: Path, bundle: Bundle) -> None:
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=finished, capture_output=True, text=True, check=True)
    found = bundle.index["provenance"]
    assert found["commit"] == git.stdout.strip()
    assert found["changed_files"] == ["params.yaml"]  # the project was committed before this change
    assert found["dvc_lock"] == sha256(finished / "dvc.lock")
    assert set(found["versions"]) >= {"burnish", "torch", "timm"}
    assert differences(bundle) == []


def test_differences_from_the_writer_are_named(bundle: Bundle) -> None:
    provenance = {"code": "other", "versions": {**bundle.index["provenance"]["versions"], "torch": "1.0"}}
    other = Bundle(bundle.folder, {**bundle.index, "provenance": provenance}, bundle.params)
    torch, code = differences(other)
    assert torch.startswith("torch 1.0 (here ")
    assert code == "different code of the stages"


def test_facts_about_the_training_images(project: Path) -> None:
    """Validation images count too, because the deployed model is fitted on them: four and one."""
    manifest = pd.read_parquet(project / "data/raw/manifest.parquet")
    train = manifest[manifest["split"] == "train"].index
    manifest.loc[train[0], ["width", "height", "mode"]] = [30, 60, "RGBA"]
    manifest.loc[manifest["split"] == "test", "width"] = 999
    manifest.to_parquet(project / "data/raw/manifest.parquet")
    make_bundle(params_of(project), project)
    found = open_bundle(project / paths.BUNDLE).index["training_images"]["tile"]
    sizes = {"common": [40, 40], "width": [30, 40], "height": [40, 60]}
    assert found == {"count": 5, **sizes, "modes": ["L", "RGBA"], "white": 65535}


def test_the_colour_range_comes_from_good_validation_images(finished: Path, bundle: Bundle) -> None:
    folder = finished / paths.maps("tile", "pca")
    row = int(np.flatnonzero(pd.read_parquet(folder / "scores.parquet")["split"] == "validation")[0])
    plane = StoredRows(folder / "maps.zarr")[row]  # 32 x 32: all its pixels are used
    expected = [np.median(plane), np.quantile(plane.astype(np.float64), 0.999)]
    assert bundle.index["map_limits"]["tile"]["pca"] == pytest.approx(expected)


def test_the_project_may_change_later(project: Path) -> None:
    make_bundle(params_of(project), project)
    for path in (project / "data/backbone").glob("model.*"):
        path.write_bytes(b"")  # in place, which would change a hard link too
    shutil.rmtree(project / "data/models")
    bundle = open_bundle(project / paths.BUNDLE)
    for part in ("backbone", "denoiser", "detectors/tile/ear", "fused/tile"):
        bundle.fitted(part)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: (p / "data/models/detectors/tile/ear/model.json").unlink(), "ear/model.json is missing"),
        (lambda p: shutil.rmtree(p / "data/fused/tile"), "data/fused/tile/scores.parquet is missing"),
        (lambda p: (p / "data/backbone/model.safetensors").unlink(), "backbone/model.safetensors is missing"),
        (lambda p: (p / "data/metrics/metrics.json").unlink(), "metrics.json is missing"),
        (lambda p: (p / "data/metrics/metrics.json").write_text("{"), "metrics.json is not JSON"),
        (lambda p: (p / "data/metrics/metrics.json").write_text("{}"), "has no metrics of tile ear"),
        (lambda p: (p / "data/raw/manifest.parquet").unlink(), "manifest.parquet is missing"),
    ],
)
def test_what_is_missing_is_named_and_the_old_bundle_stays(
    project: Path, spoil: Callable[[Path], None], words: str
) -> None:
    make_bundle(params_of(project), project)
    before = (project / paths.BUNDLE / INDEX).read_bytes()
    spoil(project)
    with pytest.raises(UserError, match=words) as refused:
        make_bundle(params_of(project), project)
    assert "burnish run" in str(refused.value)
    assert (project / paths.BUNDLE / INDEX).read_bytes() == before
    open_bundle(project / paths.BUNDLE).fitted("backbone")


@pytest.mark.parametrize("dies_at", ["a file", "the rename", "the old one's removal"])
def test_a_kill_at_any_point_leaves_a_complete_bundle(
    project: Path, dies_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyboardInterrupt stands for the kill; nothing is cleaned up, as after a kill."""
    make_bundle(params_of(project), project)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if dies_at == "the old one's removal":
            patch.setattr(writer.shutil, "rmtree", lambda path, **_: die() if Path(path).name == "v1" else None)
        else:
            patch.setattr(writer.shutil, "rmtree", lambda *_, **__: None)
            patch.setattr(*((writer.shutil, "copyfile") if dies_at == "a file" else (Path, "rename")), die)
        with pytest.raises(KeyboardInterrupt):
            make_bundle(params_of(project), project)
    folder = project / paths.BUNDLE
    remaining = open_bundle(folder)
    for name in remaining.index["files"]:
        assert (folder / name).is_file()
    make_bundle(params_of(project), project)
    assert {path.name for path in folder.iterdir()} == {INDEX, open_bundle(folder).index["folder"]}


def test_a_full_disk_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(project))

    monkeypatch.setattr(writer.shutil, "copyfile", full)
    with pytest.raises(UserError, match="the disk is full"):
        make_bundle(params_of(project), project)
    assert list((project / paths.BUNDLE).iterdir()) == []


def test_a_folder_with_other_files_is_left_alone(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else than a bundle"):
        make_bundle(params_of(finished), finished, tmp_path)
    assert (tmp_path / "v1" / "thesis.tex").exists()


def test_it_is_current_until_dvc_lock_changes(project: Path) -> None:
    assert not is_current(project)
    make_bundle(params_of(project), project)
    assert is_current(project)
    with (project / "dvc.lock").open("a") as file:
        file.write("\n")
    assert not is_current(project)
    make_bundle(params_of(project), project)
    assert is_current(project)
    rewritten(format=0)(project / paths.BUNDLE)
    assert not is_current(project)


@pytest.mark.long
def test_burnish_run_makes_it_when_needed(project: Path, environment: dict[str, str]) -> None:
    folder = project / paths.BUNDLE
    for expected in ("v1", "v1"):  # the second time nothing has to run
        done = burnish(project, environment, "run")
        assert done.returncode == 0, done.stderr
        assert "nothing to do" in done.stdout
        assert "bundle: data/bundle/" in done.stdout
        assert open_bundle(folder).index["folder"] == expected


@pytest.mark.long
def test_burnish_bundle_wants_all_stages_up_to_date(project: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = burnish(project, environment, "bundle", "--out", "../elsewhere")
    assert done.returncode == 0, done.stderr
    assert "elsewhere" in done.stdout
    assert open_bundle(tmp_path / "elsewhere").params == params_of(project)
    assert not (project / paths.BUNDLE).exists()
    change_params(project, {"pca": {"components": 2}})
    done = burnish(project, environment, "bundle")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("burnish: error: out of date or never run: train@tile-pca, infer@tile-pca, report; ")
    assert not (project / paths.BUNDLE).exists()
