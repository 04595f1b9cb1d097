"""The floor detectors on ELPV under grouped splits: image AUROC over five folds against the published table.

    python -m tests.benchmarks.floors --json FILE [--quick] [--tiles FOLDER]

Fitted on train + validation, as the table is. Images become RGB and are resized with Pillow (bilinear with
antialiasing), as the pipeline does. `--quick`: one fold of PCA, of a small Gabor and a small PaDiM, on mono alone.
`--tiles`: the magnetic tiles too (a folder that holds MT_Free, MT_Blowhole, ...).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbone.imagenet import extractor
from stages.detectors.interface import Detector, DetectorConfig, ImageNetConfig
from stages.detectors.registry import CONFIGS, detector
from stages.download.config import DataConfig
from stages.download.found import SourceImage
from stages.download.sources.registry import SOURCES
from stages.download.split import split_of
from stages.images import decode, to_square
from stages.score.metrics import auroc, curve
from stages.training import Session
from stages.types import Extract, Samples

FOLDS = 5
PUBLISHED = {
    ("mono", "pca"): 0.871,
    ("poly", "pca"): 0.538,
    ("mono", "gabor"): 0.880,
    ("poly", "gabor"): 0.829,
    ("tiles", "gabor"): 0.801,
    ("mono", "padim"): 0.922,
    ("poly", "padim"): 0.860,
    ("tiles", "padim"): 0.863,
}
"""Mean image AUROC over the five folds."""


@dataclass(frozen=True)
class Part:
    """Images of a category."""

    files: list[Path]
    groups: list[str]
    defect: NDArray[np.bool_]

    def images(self, side: int) -> NDArray[np.uint8]:
        return np.stack([to_square(decode(file.read_bytes()), side) for file in self.files])


def found(config: DataConfig) -> Part:
    """What the source of a category says, with its groups."""
    images = [one for one in SOURCES[config.source](config, Path(config.folder)) if isinstance(one, SourceImage)]
    return Part(
        [one.file for one in images], [one.group for one in images], np.array([not one.is_good for one in images])
    )


def elpv(category: str) -> Part:
    """Cells of one kind that are surely good or surely bad."""
    return found(DataConfig(source="elpv", categories=(category,)))


def tiles(root: Path) -> Part:
    """Magnetic tiles, or a part of them."""
    return found(DataConfig(source="magnetic_tile", folder=str(root), categories=("tile",)))


def remembered(extract: Extract) -> Extract:
    """The same, each image once: 0.5 MB of memory an image."""
    found: dict[bytes, NDArray[np.float32]] = {}

    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        for image in images:
            if image.tobytes() not in found:
                found[image.tobytes()] = extract(image[None])[0]
        return np.stack([found[image.tobytes()] for image in images])

    return features


def fold_auroc(
    method: Detector, config: DetectorConfig, part: Part, images: NDArray[np.uint8], extract: Extract | None, fold: int
) -> float:
    """Fit on the fold's train and validation images together, score its test images."""
    splits = np.array([split_of(fold, g, not bad) for g, bad in zip(part.groups, part.defect, strict=True)])
    good, test = (
        Samples([str(i) for i in rows], images[rows], imagenet=extract)
        for rows in map(np.flatnonzero, (splits != "test", splits == "test"))
    )
    fitted = method.fit(good, good, config, 0, Session())  # what is held out is not asked for
    scores = np.array([one.image_score for one in method.score(fitted, test, config, "cpu")])
    counts = curve(scores, part.defect[splits == "test"])
    return float(auroc(counts.tp, counts.fp))


def measure(parts: dict[str, Part], configs: dict[str, dict[str, Any]], folds: int) -> list[dict[str, Any]]:
    rows = []
    for category, part in parts.items():
        for name, changes in configs.items():
            config = CONFIGS[name](**{**changes, "fit_on": "train"})
            images, extract = part.images(config.image_side), None
            if isinstance(config, ImageNetConfig):
                extract = remembered(extractor(config.network, config.patch, "cpu"))
            start = time.process_time()
            found = [fold_auroc(detector(name), config, part, images, extract, fold) for fold in range(folds)]
            row = {
                "category": category,
                "detector": name,
                "images": len(images),
                "mean": round(float(np.mean(found)), 4),
                "min": round(min(found), 4),
                "max": round(max(found), 4),
                "published": PUBLISHED.get((category, name)),
                "cpu_s_per_fold": round((time.process_time() - start) / folds, 2),
            }
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiles", type=Path, help="folder that holds MT_Free and the defect folders")
    options = parser.parse_args()
    parts = {"mono": elpv("mono")} if options.quick else {name: elpv(name) for name in ("mono", "poly")}
    if options.tiles:
        parts["tiles"] = tiles(options.tiles)
    configs: dict[str, dict[str, Any]] = {
        "pca": {},
        "gabor": {"image_side": 64, "grid": 16} if options.quick else {},
        "padim": {"compare_features": False, **({"image_side": 64} if options.quick else {})},
    }
    rows = measure(parts, configs, 1 if options.quick else FOLDS)
    gaps = [abs(row["mean"] - row["published"]) for row in rows if row["published"] is not None]
    threads = torch.get_num_threads()
    result = {
        "name": "floors",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, torch {torch.__version__}",
        "rows": rows,
        "summary": {"largest_gap": None if options.quick else round(max(gaps), 4)},
    }
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
