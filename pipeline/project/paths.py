"""Every path under data/, from the project's root: the folder that holds dvc.yaml."""

from __future__ import annotations

from pathlib import Path

from stages.fusion.members import FUSION

DATA = Path("data")
PARAMS = Path("params.yaml")

RAW = DATA / "raw"
NORMALS = RAW / "normals.json"
"""Digests of what backbone and denoiser learn from: new test images leave it as it is."""
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
"""Output of the stage `report`: results alone."""
REPORT_INDEX = REPORT / "index.html"
"""The page that people open: the body, with commit, machine and times. No output of a stage."""

BUNDLE = DATA / "bundle"
"""What `burnish predict` loads. No output of a stage."""
JUDGED = DATA / "judged"
"""What `burnish predict` writes, unless told where."""

CHAMPION = DATA / "champion"
"""Bundles that retraining promoted, and a link to the one that serves."""
RETRAIN = DATA / "retrain"
"""What retraining keeps: its worktree, a folder a run, images that were taken in or held, the history."""
WORKTREE = RETRAIN / "worktree"

CACHE = DATA / "cache"
CHECKPOINTS = CACHE / "checkpoints"
LOGS = DATA / "logs"


def model(category: str, detector: str) -> Path:
    """Weights, what was chosen, and training curves of one detector."""
    if detector == FUSION:
        return FUSED / category
    return DATA / "models" / "detectors" / category / detector


def maps(category: str, detector: str) -> Path:
    """Anomaly maps and image scores of one detector, before any threshold."""
    if detector == FUSION:
        return FUSED / category
    return DATA / "maps" / category / detector


def project_root(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds dvc.yaml."""
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    return None
