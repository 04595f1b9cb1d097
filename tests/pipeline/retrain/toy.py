"""A project with two quick stages: the real `download`, and a stage that scores images by brightness.

The project's dvc.yaml runs this file as a script: `python toy.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

TRACKED = ("dvc.yaml", "params.yaml", "toy.py", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore")
PARAMS = {
    "data": {"source": "folder", "folder": "data/own", "categories": ["tile"]},
    "detectors": ["pca"],
    "fused": {"detectors": ["pca"]},
    "score": {"resamples": 200, "pixel_side": 16},
    "retrain": {"settle_s": 0, "drift_least": 1000, "retries": 0},
}
PIPELINE = {
    "stages": {
        "download": {
            "cmd": "python -m pipeline stage download",
            "deps": ["${data.folder}"],
            "params": ["data"],
            "outs": ["data/raw"],
        },
        "score": {
            "cmd": "python toy.py",
            "deps": ["data/raw", "toy.py"],
            "params": ["score"],
            "outs": ["data/backbone", "data/models", "data/maps", "data/predictions"],
            "metrics": [
                {"data/metrics/metrics.json": {"cache": False}},
                {"data/metrics/details.json": {"cache": False}},
            ],
        },
    }
}


def make_toy(folder: Path, repository: Path) -> Path:
    """A committed project with 60 good images and 24 defects, which has not run yet."""
    (folder / ".dvc").mkdir(parents=True)
    for name in (".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(repository / name, folder / name)
    shutil.copy(Path(__file__), folder / "toy.py")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (folder / "data" / "own").mkdir(parents=True)
    (folder / "data" / "own" / "README.md").write_text("Put images here.\n")
    for number in range(60):
        picture(folder / "data/own/normal" / f"n{number}.png", 100, number)
    for number in range(24):
        picture(folder / "data/own/defect/spot" / f"d{number}.png", 120, 1000 + number)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "config", "user.name", "t")
    git(folder, "config", "user.email", "t@example.org")
    git(folder, "add", *TRACKED, "data/own/README.md")
    git(folder, "commit", "--quiet", "-m", "start")
    return folder


def picture(path: Path, level: float, seed: int) -> Path:
    """Write a 16 x 16 image with a mean of about `level`; each seed gives another image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    values = random.normal(level + random.normal(0, 6), 5, (16, 16, 3))
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path)
    return path


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def score() -> None:
    """Score: distance of an image's mean to that of the nearest good training image."""
    from pipeline.project.params import load_params
    from pipeline.stage_io.saving import output, save_fitted, write_json
    from stages.array_store import RowWriter
    from stages.score.evaluate import evaluate
    from stages.types import Fitted

    params = load_params()
    manifest = pd.read_parquet("data/raw/manifest.parquet")
    means = np.array([np.asarray(Image.open(Path("data/raw") / path)).mean() for path in manifest["path"]])
    train = means[((manifest["split"] == "train") & (manifest["label"] == 0)).to_numpy()]
    rows = manifest["split"].isin(["validation", "test"]).to_numpy()
    scores = np.abs(means[rows][:, None] - train).min(1) + np.abs(means[rows] - np.median(train)) / 100
    table = manifest.loc[rows, ["path", "sha256", "split", "label", "defect_type", "mask_path"]].reset_index(drop=True)
    table = table.assign(image_score=scores)
    test, calibration = table[table["split"] == "test"], table[table["split"] == "validation"]
    values = evaluate(
        test["image_score"].to_numpy(),
        test["label"].to_numpy(),
        test["defect_type"].tolist(),
        calibration["image_score"].to_numpy(),
        params.score,
        params.seed,
    )
    model = Fitted({"train": train}, {}, {})
    for folder in ("data/backbone", "data/models/denoiser", "data/models/detectors/tile/pca"):
        save_fitted(Path(folder), model)
    with output(Path("data/maps/tile/pca")) as folder:
        table.to_parquet(folder / "scores.parquet", index=False)
        with RowWriter(folder / "maps.zarr", len(table)) as maps:
            for value in table["image_score"]:
                maps.append(np.full((2, 2), value, np.float32))
    with output(Path("data/predictions")) as folder:
        decided = table.assign(category="tile", detector="pca", threshold=values["threshold"])
        decision = (table["image_score"] > values["threshold"]).astype("Int64")
        decided.assign(decision=decision).to_parquet(folder / "tile-pca.parquet", index=False)
    write_json(
        Path("data/metrics/metrics.json"), {"tile": {"pca": {**values, "leak_fraction": 0.0, "leak_note": None}}}
    )
    write_json(Path("data/metrics/details.json"), {"tile": {"pca": {}}})


if __name__ == "__main__":
    print(json.dumps({"arguments": sys.argv[1:]}))
    score()
