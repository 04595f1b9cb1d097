"""Every path under data/, relative to the root of the project (the folder that holds dvc.yaml)."""

from __future__ import annotations

from pathlib import Path

from stages.fusion.members import FUSION

DATA = Path("data")
PARAMS = Path("params.yaml")

RAW = DATA / "raw"
NORMALS = RAW / "normals.json"
"""Digests of the good images that backbone and denoiser are trained on. New test images do not change this file."""
MANIFEST = RAW / "manifest.parquet"
REJECTED = RAW / "rejected.csv"

BACKBONE = DATA / "backbone"
FEATURES = DATA / "features" / "raw"
CLEAN = DATA / "features" / "clean"
DENOISED = DATA / "denoised"
DENOISER = DATA / "models" / "denoiser"
PROBE = DATA / "probe"
AUDIT = DATA / "audit"

INPUTS = DATA / "inputs"
FUSED = DATA / "fused"
PREDICTIONS = DATA / "predictions"
PLOTS = DATA / "plots"
METRICS_DIR = DATA / "metrics"
METRICS = METRICS_DIR / "metrics.json"
DETAILS = METRICS_DIR / "details.json"
REPORT = DATA / "report"
REPORT_BODY = REPORT / "body.html"
"""Output of the stage `report`. It holds results only."""
REPORT_INDEX = REPORT / "index.html"
"""The page that people open: the body, with commit, machine and times added. It is not an output of a stage."""

BUNDLE = DATA / "bundle"
"""The models that `burnish predict` loads. It is not an output of a stage."""
JUDGED = DATA / "judged"
"""Results of `burnish predict`, unless `--out` names another folder."""

CHAMPION = DATA / "champion"
"""The bundles that retraining promoted, and the link `current` to the champion."""
RETRAIN = DATA / "retrain"
"""Files of retraining: worktree, history, one folder for each run, and images that left the inbox."""
WORKTREE = RETRAIN / "worktree"

CACHE = DATA / "cache"
CHECKPOINTS = CACHE / "checkpoints"
LOGS = DATA / "logs"
WARNINGS = DATA / "warnings"
"""What each stage warns about, one file for each stage, which is an output of it."""


def model(category: str, detector: str) -> Path:
    """Folder of the trained model of one detector: weights, values that fitting chose, training curves."""
    if detector == FUSION:
        return FUSED / category
    return DATA / "models" / "detectors" / category / detector


def maps(category: str, detector: str) -> Path:
    """Folder of the anomaly maps and image scores of one detector, before any threshold."""
    if detector == FUSION:
        return FUSED / category
    return DATA / "maps" / category / detector


def project_root(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds a dvc.yaml, or None."""
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    return None
