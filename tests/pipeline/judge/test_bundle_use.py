"""Which bundle, category and detector decide, and bundles that are altered or do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.bundle import champion
from pipeline.bundle.layout import INDEX, digest_of
from pipeline.judge.command import predict
from pipeline.judge.options import Options
from pipeline.judge.selection import select_category, select_detectors
from pipeline.project import exit_codes, paths
from stages.types import ScoreMap, UserError
from tests.pipeline.judge.helpers import PCA, messages, rows_by_name


def test_several_categories_need_a_name() -> None:
    bundle: Any = SimpleNamespace(categories=("poly", "mono"))
    with pytest.raises(UserError, match="several categories: choose one with --category: poly, mono"):
        select_category(bundle, Options())
    assert select_category(bundle, Options(category="mono")) == "mono"


@pytest.mark.parametrize(
    ("scored", "wanted", "expected"),
    [
        (("ear", "pca", "fused"), (), ("fused",)),
        (("ear", "pca"), (), ("ear", "pca")),
        (("ear", "pca", "fused"), ("pca", "fused", "pca"), ("pca", "fused")),
    ],
)
def test_who_decides(scored: tuple[str, ...], wanted: tuple[str, ...], expected: tuple[str, ...]) -> None:
    bundle: Any = SimpleNamespace(detectors=scored)
    assert select_detectors(bundle, Options(detectors=wanted)) == expected


def changed_bundle(project: Path, to: Path, **changes: Any) -> Path:
    """A copy of the bundle with keys of bundle.json changed, and its digest with them."""
    folder = Path(shutil.copytree(project / paths.BUNDLE, to))
    index = {**json.loads((folder / INDEX).read_text()), **changes}
    index.pop("digest")
    (folder / INDEX).write_text(json.dumps({**index, "digest": digest_of(index)}))
    return folder


def test_an_altered_weight_file_is_refused(here: Path, tmp_path: Path) -> None:
    folder = changed_bundle(here, tmp_path / "bundle")
    path = folder / "v1/detectors/tile/pca/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    options = Options(bundle=folder, out=tmp_path / "out", detectors=PCA)
    with pytest.raises(UserError, match=r"pca/model.safetensors was altered: its digest is "):
        predict(["new/a.png"], options)
    path.unlink()
    with pytest.raises(UserError, match=r"pca/model.safetensors is missing"):
        predict(["new/a.png"], options)
    assert not (tmp_path / "out").exists()


def test_without_a_threshold_there_is_a_score_and_no_verdict(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = {"tile": {"pca": {"value": None, "note": "no good validation images to set a threshold from"}}}
    limits = {"tile": {"pca": None}}
    folder = changed_bundle(here, tmp_path / "bundle", thresholds=nothing, map_limits=limits)
    options = Options(bundle=folder, out=tmp_path / "out", detectors=PCA, fail_on_defect=True, overlays=True)
    assert predict(["new/c.png", "new/a.png"], options) == exit_codes.DEFECTS
    row = rows_by_name(tmp_path / "out")["c.png"]
    assert (row["verdict"], row["threshold"]) == (None, None)
    assert row["score"] > 0
    assert row["note"] == "no verdict: no good validation images to set a threshold from"
    assert (tmp_path / "out" / row["overlay"]).is_file()
    _, err = capsys.readouterr()
    assert messages(err) == ["burnish: 2 images without a verdict: no good validation images to set a threshold from"]


def test_a_score_that_is_no_number_is_not_good(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.judge.models import Models

    plane = np.zeros((4, 4), np.float32)
    monkeypatch.setattr(Models, "predict", lambda *_: [{"pca": ScoreMap(plane, float("nan"))}])
    assert predict(["new/a.png"], Options(out=tmp_path, detectors=PCA, as_json=True)) == 0
    row = rows_by_name(tmp_path)["a.png"]
    assert (row["verdict"], row["score"], row["score_pca"]) == (None, None, None)
    assert row["note"] == "no verdict: the score is not a finite number"


def test_a_bundle_of_another_run_or_of_other_code_is_used_with_a_notice(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = here / "dvc.lock"
    before = lock.read_bytes()
    lock.write_bytes(before + b"\n")
    monkeypatch.setattr("pipeline.bundle.reader.code_here", lambda: "other")
    try:
        assert predict(["new/a.png"], Options(out=tmp_path, detectors=PCA)) == 0
    finally:
        lock.write_bytes(before)
    assert messages(capsys.readouterr().err) == [
        "burnish: the bundle was made from another dvc.lock than the project's; `burnish bundle` makes a new bundle",
        "burnish: the bundle was made with different code of the stages: scores may differ from the scores that set its"
        " thresholds",
    ]


def test_the_champion_judges_until_another_bundle_is_resolve_paths(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy, symlinks=True)
    champion.install_version(
        copy, "v0.3.0", lambda folder: shutil.copytree(copy / paths.BUNDLE, folder, dirs_exist_ok=True)
    )
    champion.set_current(copy, "v0.3.0")
    (copy / "dvc.lock").write_text("")  # from another run, as retraining leaves the checkout
    monkeypatch.chdir(copy)
    picture = str(next((copy / "data/own/normal").glob("*.png")))
    assert predict([picture], Options()) == 0
    assert messages(capsys.readouterr().err) == [
        "burnish: using the champion v0.3.0; `--bundle data/bundle` uses the models of the latest run"
    ]
    assert predict([picture], Options(bundle=paths.BUNDLE)) == 0
    assert messages(capsys.readouterr().err) == []


def test_models_that_do_not_fit_other_code_are_one_line(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("network.new")

    monkeypatch.setattr("stages.detectors.pca.detector.score", fails)
    with pytest.raises(KeyError):  # the same code: a bug, so no short message
        predict(["new/a.png"], Options(out=tmp_path, detectors=PCA))
    monkeypatch.setattr("pipeline.bundle.reader.code_here", lambda: "other")
    with pytest.raises(UserError, match=r"does not fit this code \(KeyError: 'network.new'\): make a new bundle"):
        predict(["new/a.png"], Options(out=tmp_path, detectors=PCA))
