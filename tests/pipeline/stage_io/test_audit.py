"""The stage `audit` and what the scores say of it, on a small project with twins across the splits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from pipeline.stage_io.run_stage import run as run_stage
from pipeline.stage_io.score import _near_duplicate_note
from tests.conftest import change_params, make_project


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images, and three that should not be where they are: group 3 is test, group 0 training."""
    project = make_project(tmp_path_factory.mktemp("audit") / "project")
    change_params(project, {"backbone": {"steps": 0}, "compute": {"executor": "serial"}})
    own = project / "data/own"
    Image.open(own / "normal/n0.png").save(own / "normal/n3-again.jpg", quality=90)  # the same part, encoded anew
    shutil.copy(own / "normal/n1.png", own / "normal/n18-copy.png")  # identical, for calibration
    shutil.copy(own / "normal/n2.png", own / "defect/spot/bad-copy.png")  # a good image among the defects
    for name in ("download", "pretrain", "features"):
        subprocess.run([sys.executable, "-m", "pipeline", "stage", name], cwd=project, check=True, capture_output=True)
    return project


def audited(project: Path, monkeypatch: pytest.MonkeyPatch, **data: Any) -> tuple[dict[str, Any], pd.DataFrame]:
    monkeypatch.chdir(project)
    change_params(project, {"data": {"max_leak_fraction": 0.1} | data})
    run_stage("audit")
    return json.loads(Path("data/audit/audit.json").read_text())["tile"], pd.read_csv("data/audit/pairs.csv")


def test_twins_across_the_splits_are_found_and_shown(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, pairs = audited(prepared, monkeypatch)
    close = {(row["path"].rpartition("/")[2], row["other_path"].rpartition("/")[2]) for row in pairs.to_dict("records")}
    assert close == {("n3-again.jpg", "n0.png"), ("n18-copy.png", "n1.png"), ("bad-copy.png", "n2.png")}
    assert found["with_a_near_duplicate"] == {"validation": 1, "test": 1}
    assert found["share_with_a_near_duplicate"] == {"validation": 0.5, "test": 0.5}
    assert found["identical_across_splits"] == 1  # the JPEG has other bytes
    assert found["defects_identical_to_a_good_image"] == 1
    assert found["leaks"] is True
    for name in ("twins-tile.png", "suspects-tile.png"):
        with Image.open(Path("data/audit") / name) as picture:
            assert min(picture.size) > 200


def test_every_good_image_to_learn_from_is_ranked(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audited(prepared, monkeypatch)
    ranked = pd.read_csv("data/audit/suspects.csv")
    known = dict(zip((path.rpartition("/")[2] for path in ranked["path"]), ranked["split"], strict=True))
    assert known == {f"n{i}.png": "train" for i in (0, 1, 2, 4)} | {
        "n18-copy.png": "validation",
        "n18.png": "validation",
    }
    assert ranked["deviation"].is_monotonic_decreasing


def test_the_scores_warn_above_the_limit_alone(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = _near_duplicate_note(audited(prepared, monkeypatch)[0])
    assert said["leak_fraction"] == 0.5
    assert "50.0% of the good test images" in said["leak_note"] and "max_leak_fraction = 10.0%" in said["leak_note"]
    assert "data.group_pattern" in said["leak_note"]
    assert _near_duplicate_note(audited(prepared, monkeypatch, max_leak_fraction=0.5)[0]) == {
        "leak_fraction": 0.5,
        "leak_note": None,
    }
    alone = audited(prepared, monkeypatch)[0] | {"share_with_a_near_duplicate": {"validation": None, "test": None}}
    assert _near_duplicate_note(alone | {"leaks": None}) == {
        "leak_fraction": None,
        "leak_note": None,
    }  # no good test image
