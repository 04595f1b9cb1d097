"""Which detectors are fused, and what each adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.project import paths
from pipeline.project.params import Params, load_params
from pipeline.stage_io.fuse import fuse_detectors
from pipeline.stage_io.score import _leave_one_out
from stages.array_store import RowWriter
from stages.fusion.fusion import fit_knots, held_out_quantiles, normalize
from stages.fusion.members import FUSION
from stages.types import UserError


def _params(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load_params(path)


def test_members_are_those_that_run_and_one_alone_is_no_fusion(tmp_path: Path) -> None:
    two = _params(tmp_path, "detectors: [pca, gabor, ear]\nfused: {detectors: [ear, intra, gabor]}")
    assert two.fused_detectors == ("ear", "gabor")
    assert two.scored_detectors == ("pca", "gabor", "ear", "fused")
    one = _params(tmp_path, "detectors: [pca, ear]\nfused: {detectors: [ear, intra]}")
    assert one.fused_detectors == ()
    assert one.scored_detectors == ("pca", "ear")
    with pytest.raises(UserError, match="unknown detector 'foo'"):
        _params(tmp_path, "fused: {detectors: [ear, foo]}")


def test_what_a_member_adds_is_the_auroc_less_that_without_it(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [40, 60])
    good, useless = generator.normal(size=100) + 1.5 * labels, generator.normal(size=100)
    columns = {
        "split": "test",
        "label": labels,
        "group": [f"part{number}" for number in range(100)],
        "image_score": (good + useless) / 2,
        "extra_without_ear": useless,
        "extra_without_gabor": good,
    }
    table = pd.concat([pd.DataFrame(columns), pd.DataFrame({**columns, "split": "validation"})])
    params = _params(tmp_path, "detectors: [ear, gabor]\nfused: {detectors: [ear, gabor]}")
    added = _leave_one_out(params, FUSION, table)["added_by"]
    whole = roc_auc_score(labels, columns["image_score"])
    assert added["ear"]["image_auroc"] == pytest.approx(whole - roc_auc_score(labels, useless), abs=1e-6)
    assert added["gabor"]["image_auroc"] == pytest.approx(whole - roc_auc_score(labels, good), abs=1e-6)
    assert added["ear"]["ci"][0] > 0 > added["gabor"]["ci"][1]
    assert _leave_one_out(params, "ear", table) == {}
    assert _leave_one_out(params, FUSION, table[table["label"] == 1]) == {}


def test_validation_images_are_ranked_among_the_others_and_test_images_among_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    columns = dict.fromkeys(["path", "sha256", "defect_type", "mask_path", "group"], "")
    split = np.array(["validation"] * 9 + ["test"] * 4)[generator.permutation(13)]
    scores = {name: generator.normal(size=13) for name in ("ear", "gabor")}
    for name, values in scores.items():
        folder = paths.maps("tile", name)
        folder.mkdir(parents=True)
        pd.DataFrame({**columns, "split": split, "label": 0, "image_score": values}).to_parquet(
            folder / "scores.parquet"
        )
        with RowWriter(folder / "maps.zarr", 13) as writer:
            for value in values:
                writer.append(np.full((2, 2), value, np.float32))
    (tmp_path / "params.yaml").write_text(
        "data: {categories: [tile]}\ndetectors: [ear, gabor]\nfused: {detectors: [ear, gabor]}"
    )
    fuse_detectors(load_params(tmp_path / "params.yaml"))
    fused = pd.read_parquet(paths.maps("tile", FUSION) / "scores.parquet")
    validation = split == "validation"
    members = [held_out_quantiles(values[validation]) for values in scores.values()]
    assert fused.loc[validation, "image_score"].tolist() == pytest.approx(np.mean(members, axis=0).tolist())
    assert fused.loc[validation, "extra_without_ear"].tolist() == pytest.approx(members[1].tolist())
    among_all = [normalize(values[~validation], fit_knots(values[validation])) for values in scores.values()]
    assert fused.loc[~validation, "image_score"].tolist() == pytest.approx(np.mean(among_all, axis=0).tolist())
