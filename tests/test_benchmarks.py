"""Every benchmark that no other test calls runs in its quick form and writes the agreed JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.folds import measure, summarised, tables
from tests.conftest import ROOT

SUMMARY = {
    "run": {"wall_s", "peak_rss_mb", "noop_s", "dvc_noop_s"},
    "backbone": {"cnn", "hybrid", "plain"},
    "intra": {"infer_ratio", "train_ratio", "gather_train_ratio", "max_abs_diff"},
    "ear": {"images_per_s"},
    "knn": {"peak_mb_1m"},
    "pasted": {"image_score"},
    "coverage": {"best_pasted"},
    "dvt": {
        *("cpu_ratio_min", "cpu_ratio_median", "r2_gap_min"),
        *("solve_37_cpu_s", "solve_37_peak_mb", "solve_14_cpu_s"),
    },
    "denoiser": {"positional_leakage_raw", "positional_leakage_denoiser", "image_auroc_raw", "image_auroc_denoiser"},
    "shared_artifact": {"gain_4_views", "gain_8_views", "gain_20_views"},
    "objectives": {"random", "distill", "dino", "selfpatch", "sdssl", "mfm"},
    "folds": {"tile pca"},
    "data": {"manifest_images_per_s", "loader_to_model_ratio"},
    "audit": {"seconds_10k"},
    "diff": {"seconds_10k", "peak_mb"},
    "drift": {"cpu_s"},
    "intervals": {"least", "most"},
    "thresholds": {"rows"},
    "table": {"rows", "mean_regret"},
    "restoration": {"image_auroc", "epochs", "score_s"},
    "retrain": {"nothing_new_s", "new_s", "cold_s", "cost_ratio"},
    "report": {"seconds_1k", "file_mb"},
    "predict": {"model_time_fraction", "rss_growth_mb", "images_per_s"},
    "crowded": {"gain", "cost"},
    "incremental": {"items_added", "items_computed", "cost_ratio"},
}


ONE_RUN = ("run", "folds")
"""Benchmarks of the whole pipeline: the first runs it, the others find it finished."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finished")


@pytest.mark.long
@pytest.mark.parametrize("name", SUMMARY)
def test_quick(name: str, tmp_path: Path, environment: dict[str, str], finished: Path) -> None:
    file = tmp_path / "out.json"
    keep = ["--keep", str(finished / "project")] if name in ONE_RUN else []
    result = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{name}", "--json", str(file), "--quick", *keep],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    content = json.loads(file.read_text())
    assert content["name"] == name
    assert set(content["summary"]) >= SUMMARY[name]
    # differences, which may be noise in a small run; and what ought to be none
    signed = (
        "r2_gap_",
        "gain_",
        "cost_ratio",
        "positional_leakage",
        "memory_growth",
        "second_run_decodes",
        "rss_growth",
        "training_s",
        "mean_regret",
    )
    assert all(value > 0 or name.startswith(signed) for name, value in content["summary"].items())
    assert content["rows"]
    assert content["machine"]


def test_folds_of_one_data_set_are_of_one_commit(tmp_path: Path) -> None:
    file = tmp_path / "folds.json"
    rows = [{"data": "tiny", "fold": 0, "commit": "abc", "processor": "", "image_auroc": {}, "added_by": {}}]
    file.write_text(json.dumps({"rows": rows}))
    with pytest.raises(SystemExit, match="holds folds of commit abc"):
        measure(file, {"tiny": {}}, (0, 1), ROOT)
    assert json.loads(file.read_text()) == {"rows": rows}


def test_folds_compares_with_padim_in_the_same_fold() -> None:
    """Means of differences, not differences of the ends: the folds differ by more than the detectors."""

    def row(fold: int, **reached: float) -> dict[str, Any]:
        detectors = {name: {"value": one, "ci": [one - 0.1, one + 0.1]} for name, one in reached.items()}
        added = {"ear": {"value": 0.01 * fold, "ci": [0.0, 0.02]}}
        return {"image_auroc": {"mono": detectors}, "added_by": {"mono": added}}

    ear, padim = summarised([row(1, ear=0.7, padim=0.6), row(2, ear=0.85, padim=0.9)])
    assert (ear["detector"], padim["detector"]) == ("ear", "padim")
    assert ear["image_auroc"] == {"mean": 0.775, "ci": [0.675, 0.875], "least": 0.7, "most": 0.85, "folds": 2}
    assert ear["above_padim"] == {"mean": 0.025, "ci": None, "least": -0.05, "most": 0.1, "folds": 2}
    assert ear["added"] == {"mean": 0.015, "ci": [0.0, 0.02], "least": 0.01, "most": 0.02, "folds": 2}
    assert padim["above_padim"] == padim["added"] == {}
    assert ear["deployed"] == [] and "threshold" not in tables([ear, padim])


def test_folds_shows_the_threshold_of_every_fold() -> None:
    rows = [
        {
            "image_auroc": {"mono": {"ear": {"value": 0.9, "ci": None}}},
            "added_by": {},
            "deployed": {"mono": {"ear": {"threshold": threshold, "overkill_rate": overkill, "escape_rate": 0.25}}},
        }
        for threshold, overkill in ((1.5, 0.05), (2.25, None))
    ]
    assert "| ear | 1.5: 5 / 25 %, 2.25: – / 25 % |" in tables(summarised(rows))
