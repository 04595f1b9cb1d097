"""A small git and DVC project with the outputs that `burnish diff` reads; scores are sampled, not computed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from dvc.repo import Repo
from PIL import Image

from pipeline.compare.sides import Key, Side
from stages.score.config import ScoreConfig
from stages.score.evaluate import evaluate

DVC_YAML = """
stages:
  download:
    cmd: python -m pipeline stage download
    params: [data]
    outs: [data/raw]
  score:
    cmd: python -m pipeline stage score
    deps: [data/raw]
    params: [seed, knn]
    outs: [data/predictions, data/plots]
    metrics:
      - data/metrics/metrics.json: {cache: false}
      - data/metrics/details.json: {cache: false}
plots:
  - data/plots/roc: {template: simple, x: fpr, y: tpr}
"""
IGNORED = "/data/*\n!/data/metrics/\n"


def git(project: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout.strip()


@dataclass(frozen=True)
class Run:
    """The results of one run of the pipeline."""

    manifest: pd.DataFrame
    scores: Mapping[tuple[str, str], pd.Series]
    """By category and detector: image scores by path, of all validation and test images."""
    threshold: float | None = 1.0
    params: Mapping[str, Any] = field(
        default_factory=lambda: {"seed": 0, "data": {"source": "folder"}, "knn": {"k": 1}}
    )
    pictures: bool = False


def manifest(
    goods: int = 20, bads: int = 20, train: int = 4, validation: int = 4, category: str = "tile"
) -> pd.DataFrame:
    """Numbered images; the digest of an image is the digest of its name."""
    rows = []
    for split, label, count in (
        ("train", 0, train),
        ("validation", 0, validation),
        ("test", 0, goods),
        ("test", 1, bads),
    ):
        for number in range(count):
            name = f"{category}-{split}-{label}-{number:05d}"
            rows.append(
                {
                    "path": f"images/{name}.png",
                    "sha256": hashlib.sha256(name.encode()).hexdigest(),
                    "width": 24,
                    "height": 16,
                    "category": category,
                    "split": split,
                    "label": label,
                    "defect_type": "scratch" if label else "",
                    "mask_path": "",
                    "group": name,
                    "phash": "",
                }
            )
    return pd.DataFrame(rows)


def scores(table: pd.DataFrame, shift: float, seed: int, noise: float = 1.0) -> pd.Series:
    """Scores with a part that depends on the image alone and not on the seed; defects score `shift` higher."""
    used = table[table["split"] != "train"]
    common = np.array([int(digest[:8], 16) / 2**32 for digest in used["sha256"]]) * 2 - 1
    values = common + shift * used["label"].to_numpy() + noise * np.random.default_rng(seed).normal(size=len(used))
    return pd.Series(values, index=used["path"])


def run(shift: float = 1.5, seed: int = 0, table: pd.DataFrame | None = None, **changes: Any) -> Run:
    """Two detectors, `knn` and `pca`, on one category; `pca` is identical in all runs on the same images."""
    table = manifest() if table is None else table
    found = {("tile", "knn"): scores(table, shift, seed), ("tile", "pca"): scores(table, 1.0, 99)}
    return Run(table, found, **changes)


def picture(name: str) -> bytes:
    pixels = np.random.default_rng(len(name)).integers(0, 255, (16, 24), np.uint8)
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


def tables(run: Run) -> dict[Key, pd.DataFrame]:
    """The tables of data/predictions."""
    found = {}
    for (category, detector), values in run.scores.items():
        used = run.manifest[run.manifest["path"].isin(values.index)]
        table = used[["path", "sha256", "split", "label", "defect_type", "mask_path"]].copy()
        table["image_score"] = values[table["path"]].to_numpy()
        table["category"], table["detector"], table["threshold"] = category, detector, run.threshold
        rejected = None if run.threshold is None else (table["image_score"] > run.threshold).astype(int).to_numpy()
        table["decision"] = pd.array([None] * len(table) if rejected is None else rejected, dtype="Int64")
        found[Key(category, detector)] = table
    return found


def figures(run: Run) -> dict[str, dict[str, Any]]:
    """data/metrics/metrics.json."""
    metrics: dict[str, dict[str, Any]] = {}
    for (category, detector), table in tables(run).items():
        test = table[table["split"] == "test"]
        validation = [] if run.threshold is None else [run.threshold]  # a single score becomes the threshold
        arguments = (test["image_score"].to_numpy(), test["label"].to_numpy(), [None] * len(test), validation)
        metrics.setdefault(category, {})[detector] = evaluate(*arguments, ScoreConfig(resamples=10), 0)
    return metrics


def side(run: Run, name: str = "A", **changes: Any) -> Side:
    """The side that `read_side` would return for a run."""
    known = {"params": run.params, "metrics": figures(run), "predictions": tables(run), "manifest": run.manifest}
    return Side(**{"root": Path(), "name": name, "commit": None, **known, **changes})


def write_run(project: Path, run: Run) -> None:
    """data/raw, data/predictions, data/plots, data/metrics and params.yaml, as the pipeline writes them."""
    raw, predictions = project / "data/raw", project / "data/predictions"
    for folder in (raw / "images", predictions, project / "data/plots/roc", project / "data/metrics"):
        folder.mkdir(parents=True, exist_ok=True)
    for old in predictions.iterdir():
        old.unlink()
    run.manifest.to_parquet(raw / "manifest.parquet", index=False)
    for path in run.manifest["path"] if run.pictures else ():
        (raw / path).write_bytes(picture(path))
    for (category, detector), table in tables(run).items():
        table.to_parquet(predictions / f"{category}-{detector}.parquet", index=False)
    for name, content in (("metrics", figures(run)), ("details", {})):
        (project / f"data/metrics/{name}.json").write_text(json.dumps(content, indent=2))
    (project / "data/plots/roc/tile-knn.json").write_text(json.dumps([{"fpr": 0, "tpr": 0}, {"fpr": 1, "tpr": 1}]))
    (project / "params.yaml").write_text(yaml.safe_dump(dict(run.params)))


def start(project: Path) -> Path:
    """An empty project."""
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/config").write_text("[core]\n    analytics = false\n    autostage = false\n")
    (project / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (project / "dvc.yaml").write_text(DVC_YAML)
    (project / ".gitignore").write_text(IGNORED)
    git(project, "init", "--quiet", "--initial-branch=main")
    return project


def commit(project: Path, message: str) -> str:
    """Commit the files to DVC and git; returns the commit."""
    with contextlib.chdir(project), Repo(str(project)) as repo:
        repo.commit(force=True)
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", message)
    return git(project, "rev-parse", "HEAD")


def project_of(folder: Path, *runs: Run) -> Path:
    """A project with one commit per run, oldest first."""
    project = start(folder)
    for number, run in enumerate(runs):
        write_run(project, run)
        commit(project, f"run {number}")
    return project
