"""The bundle: what is in it, that it is whole whatever happens, and when it is made anew."""

from __future__ import annotations

import errno
import hashlib
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
from PIL import Image

from pipeline.bundle import writer as made
from pipeline.bundle.reader import Bundle, differences, open_bundle
from pipeline.bundle.writer import INDEX, digest_of, is_current, make_bundle
from pipeline.project import paths
from pipeline.project.params import Params, load_params
from pipeline.stage_io.saving import load_fitted
from stages.array_store import StoredRows
from stages.types import UserError
from tests.conftest import change_params


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


@pytest.fixture(scope="module")
def bundle(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "made"
    assert make_bundle(params_of(finished), finished, folder) == folder
    return open_bundle(folder)


def params_of(project: Path) -> Params:
    return load_params(project / "params.yaml")


def burnish(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_it_holds_the_models_the_parameters_and_the_thresholds(finished: Path, bundle: Bundle) -> None:
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
        same(bundle.fitted(made.model_part("tile", name)), finished / paths.model("tile", name))
    same(bundle.fitted("backbone"), finished / "data/backbone")
    same(bundle.fitted("denoiser"), finished / "data/models/denoiser")
    files = [path for path in bundle.folder.rglob("*") if path.is_file() and path.name != INDEX]
    assert {str(path.relative_to(bundle.folder)): sha256(path) for path in files} == bundle.index["files"]


def same(found: Any, folder: Path) -> None:
    expected, _ = load_fitted(folder)
    assert (found.info, found.metrics) == (expected.info, expected.metrics)
    assert set(found.arrays) == set(expected.arrays)
    assert all(np.array_equal(found.arrays[name], value) for name, value in expected.arrays.items())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_it_says_where_it_comes_from(finished: Path, bundle: Bundle) -> None:
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=finished, capture_output=True, text=True, check=True)
    found = bundle.index["provenance"]
    assert found["commit"] == git.stdout.strip()
    assert found["changed_files"] == ["params.yaml"]  # its commit came before the change
    assert found["dvc_lock"] == sha256(finished / "dvc.lock")
    assert set(found["versions"]) >= {"burnish", "torch", "timm"}
    assert differences(bundle) == []


def test_what_differs_from_its_maker_is_said(bundle: Bundle) -> None:
    made_by = {"code": "other", "versions": {**bundle.index["provenance"]["versions"], "torch": "1.0"}}
    other = Bundle(bundle.folder, {**bundle.index, "provenance": made_by}, bundle.params)
    torch, code = differences(other)
    assert torch.startswith("torch 1.0, here ")
    assert code == "other code of the stages"


def test_training_images_in_short(project: Path) -> None:
    """Those of calibration are learnt from too: four and one."""
    manifest = pd.read_parquet(project / "data/raw/manifest.parquet")
    train = manifest[manifest["split"] == "train"].index
    manifest.loc[train[0], ["width", "height"]] = [30, 60]
    manifest.loc[manifest["split"] == "test", "width"] = 999
    manifest.to_parquet(project / "data/raw/manifest.parquet")
    Image.new("RGBA", (30, 60)).save(project / "data/raw" / manifest.loc[train[0], "path"])
    make_bundle(params_of(project), project)
    found = open_bundle(project / paths.BUNDLE).index["training_images"]["tile"]
    assert found == {"count": 5, "common": [40, 40], "width": [30, 40], "height": [40, 60], "modes": ["L", "RGBA"]}


def test_colours_of_heat_maps_are_those_of_good_validation_images(finished: Path, bundle: Bundle) -> None:
    folder = finished / paths.maps("tile", "pca")
    row = int(np.flatnonzero(pd.read_parquet(folder / "scores.parquet")["split"] == "validation")[0])
    plane = StoredRows(folder / "maps.zarr")[row]  # 32 x 32: all of its pixels count
    expected = [np.median(plane), np.quantile(plane.astype(np.float64), 0.999)]
    assert bundle.index["map_limits"]["tile"]["pca"] == pytest.approx(expected)


def test_the_project_may_change_later(project: Path) -> None:
    make_bundle(params_of(project), project)
    for path in (project / "data/backbone").glob("model.*"):
        path.write_bytes(b"")  # in place, which would reach a hard link
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
        (lambda p: (p / "data/metrics/metrics.json").write_text("{}"), "says nothing of tile ear"),
        (lambda p: (p / "data/raw/manifest.parquet").unlink(), "manifest.parquet is missing"),
    ],
)
def test_what_has_not_run_is_named_and_the_old_bundle_stays(
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
def test_killed_at_any_point_it_leaves_a_whole_bundle(
    project: Path, dies_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyboardInterrupt stands for the kill; what `finally` would tidy up is left as a kill would leave it."""
    make_bundle(params_of(project), project)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if dies_at == "the old one's removal":
            patch.setattr(made.shutil, "rmtree", lambda path, **_: die() if Path(path).name == "v1" else None)
        else:
            patch.setattr(made.shutil, "rmtree", lambda *_, **__: None)
            patch.setattr(*((made.shutil, "copyfile") if dies_at == "a file" else (Path, "rename")), die)
        with pytest.raises(KeyboardInterrupt):
            make_bundle(params_of(project), project)
    folder = project / paths.BUNDLE
    left = open_bundle(folder)
    for name in left.index["files"]:
        assert (folder / name).is_file()
    make_bundle(params_of(project), project)
    assert {path.name for path in folder.iterdir()} == {INDEX, open_bundle(folder).index["folder"]}


def test_a_full_disk_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(project))

    monkeypatch.setattr(made.shutil, "copyfile", full)
    with pytest.raises(UserError, match="the disk is full"):
        make_bundle(params_of(project), project)
    assert list((project / paths.BUNDLE).iterdir()) == []


def test_a_folder_that_holds_something_else_is_left_alone(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something that is no bundle"):
        make_bundle(params_of(finished), finished, tmp_path)
    assert (tmp_path / "v1" / "thesis.tex").exists()


def rewritten(**changes: Any) -> Callable[[Path], None]:
    """Change bundle.json; its digest is then right or, with `digest` among the changes, what they say."""

    def change(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        index.pop("digest")
        index |= changes
        index.setdefault("digest", digest_of(index))
        (folder / INDEX).write_text(json.dumps(index))

    return change


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "no bundle in"),
        (lambda folder: (folder / INDEX).write_text("{"), "bundle.json cannot be read"),
        (rewritten(format=2), "is of format 2, this version of burnish reads format 1"),
        (edited(INDEX, '"format": 1', '"format": 0'), "is of format 0"),
        (rewritten(thresholds={}, digest="0"), "bundle.json was altered"),
        (edited(INDEX, '"value": ', '"value": 1'), "bundle.json was altered"),
        (edited("v1/params.json", '"seed": 0', '"seed": 1'), "params.json was altered: its digest is"),
        (lambda folder: (folder / "v1/params.json").unlink(), "params.json is missing"),
        (rewritten(files={}), "does not name v1/params.json"),
    ],
)
def test_what_is_altered_is_refused(bundle: Bundle, tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    spoil(folder)
    with pytest.raises(UserError, match=words) as refused:
        open_bundle(folder)
    assert "burnish bundle" in str(refused.value)


def test_parameters_of_another_version_are_named(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    edited("v1/params.json", '"score"', '"scroe"')(folder)
    rewritten(files={**bundle.index["files"], "v1/params.json": sha256(folder / "v1/params.json")})(folder)
    with pytest.raises(UserError, match=r"unknown key 'scroe'.*another version of burnish"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_models_are_checked_as_they_are_loaded(bundle: Bundle, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    path = folder / "v1/detectors/tile/pca" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    opened = open_bundle(folder)
    with pytest.raises(UserError, match=rf"pca/{name} was altered"):
        opened.fitted("detectors/tile/pca")
    opened.fitted("detectors/tile/ear")
    path.unlink()
    with pytest.raises(UserError, match=rf"pca/{name} is missing"):
        opened.fitted("detectors/tile/pca")


def test_it_is_current_as_long_as_dvc_lock_is(project: Path) -> None:
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


def test_burnish_run_makes_it_when_it_is_due(project: Path, environment: dict[str, str]) -> None:
    folder = project / paths.BUNDLE
    for expected in ("v1", "v1"):  # the second time nothing is to do
        done = burnish(project, environment, "run")
        assert done.returncode == 0, done.stderr
        assert "nothing to do" in done.stdout
        assert "bundle: data/bundle/" in done.stdout
        assert open_bundle(folder).index["folder"] == expected


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
