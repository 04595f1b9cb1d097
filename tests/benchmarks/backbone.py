"""Backbones on ELPV mono: what their tokens tell of defects, and what they cost.

    python -m tests.benchmarks.backbone --json FILE [--quick] [--folds 5] [--more]

For each backbone, built for each fold anew on its training images alone: image AUROC of a Gaussian per position
(covariance half its own, half pooled, + 1e-3; Mahalanobis map, sigma 1, maximum) and of the nearest of 5,000 memory
vectors (distance map, sigma 1, maximum), both fitted on train + validation; the class attention's mass on patches,
entropy over its largest possible value, and share on the border; CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import solve_triangular
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.load import load
from stages.download.split import split_of
from stages.training import Session
from stages.types import Subset

ROWS: dict[str, dict[str, Any]] = {
    "cnn": {"model": "cnn"},
    "hybrid": {"model": "hybrid"},
    "hybrid, untrained": {"model": "hybrid", "steps": 0},
    "plain": {"model": "plain"},
    "plain, untrained": {"model": "plain", "steps": 0},
    "focus, block 6": {"model": "focus", "blocks": (6,)},
    "focus, block 9": {"model": "focus", "blocks": (9,)},
    "focus, block 12": {"model": "focus"},
}
MORE: dict[str, dict[str, Any]] = {
    "cnn, 192 px": {"model": "cnn", "image_side": 192},
    "cnn, 192 px, patch 8": {"model": "cnn", "image_side": 192, "patch": 8},
}
GROUP = 60
"""Consecutive cells of a module."""


@dataclass(frozen=True)
class Cells:
    """Monocrystalline cells: file, number, defect."""

    paths: list[Path]
    numbers: NDArray[np.int64]
    defect: NDArray[np.bool_]

    def images(self, side: int) -> NDArray[np.uint8]:
        """(N, side, side, 3)."""
        opened = (
            Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR) for path in self.paths
        )
        return np.stack([np.asarray(image) for image in opened])

    def split(self, fold: int) -> NDArray[np.str_]:
        pairs = zip(self.numbers, self.defect, strict=True)
        return np.array([split_of(fold, str(number // GROUP), not defect) for number, defect in pairs])


def elpv_mono(every: int) -> Cells:
    """Every so-manieth of the cells with defect probability 0 or 1."""
    import elpv_dataset

    root = Path(elpv_dataset.__file__).parent / "data"
    lines = [line.split() for line in (root / "labels.csv").read_text().splitlines()]
    kept = [(root / p, float(y)) for p, y, kind in lines if kind == "mono" and float(y) in (0.0, 1.0)][::every]
    numbers = [int(path.stem.removeprefix("cell")) for path, _ in kept]
    return Cells([path for path, _ in kept], np.array(numbers), np.array([y == 1.0 for _, y in kept]))


def smoothed_maximum(maps: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.array([gaussian_filter(m, 1.0).max() for m in maps])


def gaussian_scores(train: NDArray[np.float32], test: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of (n, h, w, C) tokens."""
    _, h, w, c = train.shape
    centre = train.mean(0)
    a, b = train - centre, test - centre
    flat = a.reshape(-1, c)
    pooled = flat.T @ flat / len(flat)
    distance = np.empty(b.shape[:3])
    for i in range(h):
        for j in range(w):
            own = a[:, i, j].T @ a[:, i, j] / len(a)
            root = np.linalg.cholesky(0.5 * own + 0.5 * pooled + 1e-3 * np.eye(c))
            distance[:, i, j] = np.sqrt(np.square(solve_triangular(root, b[:, i, j].T, lower=True)).sum(0))
    return smoothed_maximum(distance)


def neighbour_scores(train: NDArray[np.float32], test: NDArray[np.float32], memory: int = 5000) -> NDArray[np.float64]:
    """Of (n, h, w, C) tokens."""
    flat = train.reshape(-1, train.shape[-1])
    kept = flat[np.random.default_rng(0).permutation(len(flat))[:memory]]
    norms = np.square(kept).sum(1)

    def nearest(image: NDArray[np.float32]) -> NDArray[np.float32]:
        x = image.reshape(-1, image.shape[-1])
        squared = norms - 2 * x @ kept.T + np.square(x).sum(1)[:, None]
        return np.sqrt(squared.min(1).clip(0)).reshape(image.shape[:2])

    return smoothed_maximum(np.stack([nearest(image) for image in test]))


def standardised(tokens: NDArray[np.float32], train: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Per channel, so that the added 1e-3 means the same for every backbone."""
    flat = tokens[train].reshape(-1, tokens.shape[-1])
    return (tokens - flat.mean(0)) / (flat.std(0) + 1e-6)


def of_attention(attention: NDArray[np.float32] | None) -> dict[str, float | None]:
    """Mass on patches; entropy over log(h*w); share on the border (uniform attention: `uniform_border`)."""
    if attention is None:
        return {"attention_mass": None, "attention_entropy": None, "attention_border": None, "uniform_border": None}
    mass = attention.sum((2, 3))
    p = attention / mass[..., None, None]
    entropy = -(p * np.log(p + 1e-12)).sum((2, 3)) / np.log(p[0, 0].size)
    border = np.ones(p.shape[2:], bool)
    border[1:-1, 1:-1] = False
    return {
        "attention_mass": float(mass.mean()),
        "attention_entropy": float(entropy.mean()),
        "attention_border": float(p[..., border].sum(-1).mean()),
        "uniform_border": float(border.mean()),
    }


def measure(name: str, config: BackboneConfig, cells: Cells, folds: int) -> dict[str, Any]:
    images = cells.images(config.image_side)
    aurocs: dict[str, list[float]] = {"gaussian": [], "neighbour": []}
    cost: list[tuple[float, float]] = []
    row: dict[str, Any] = {}
    tokens = np.empty(0, np.float32)
    for fold in range(folds):
        split = cells.split(fold)
        start = time.process_time()
        chosen = (Subset(images, np.flatnonzero(split == part)) for part in ("train", "validation"))
        fitted = build(config, *chosen, seed=0, session=Session())
        middle = time.process_time()
        features = load(fitted, "cpu").extract(images)
        cost.append((middle - start, time.process_time() - middle))
        tokens, row = features.tokens, of_attention(features.attention)
        test = split == "test"
        scaled = standardised(tokens, ~test)
        for kind, scores in (("gaussian", gaussian_scores), ("neighbour", neighbour_scores)):
            aurocs[kind].append(float(roc_auc_score(cells.defect[test], scores(scaled[~test], scaled[test]))))
    losses = {key: fitted.metrics.get(key) for key in ("val_patch", "val_class")}
    build_s, extract_s = np.mean(cost, axis=0)
    means = {f"{kind}_auroc": float(np.mean(values)) for kind, values in aurocs.items()}
    shape = {"images": len(images), "grid": list(tokens.shape[1:3]), "channels": tokens.shape[3]}
    timings = {"build_cpu_s": float(build_s), "extract_cpu_s": float(extract_s)}
    return {"backbone": name, **shape, **means, "folds": aurocs, **row, **losses, **timings}


def batch_cost(config: BackboneConfig, images: NDArray[np.uint8]) -> dict[str, float]:
    """CPU seconds an image, one at a time and eight at a time, of the CNN alone."""
    from stages.backbone.networks.crops import to_pixels
    from stages.backbone.networks.lite0 import imagenet

    network, pixels = imagenet(config.patch, deep=False), to_pixels(images[:8])
    result = {}
    with torch.inference_mode():
        for size in (1, 8):
            parts = pixels.split(size)
            times = []
            for _ in range(5):
                start = time.process_time()
                for part in parts:
                    network(part)
                times.append((time.process_time() - start) / len(pixels))
            result[f"cnn_cpu_s_an_image_by_{size}"] = float(np.median(times))
    return result


def show(rows: list[dict[str, Any]]) -> Iterator[str]:
    names = ("gaussian_auroc", "neighbour_auroc", "attention_entropy", "attention_border", "val_class")
    yield f"{'backbone':24}" + "".join(f"{name:>18}" for name in (*names, "build_cpu_s", "extract_cpu_s"))
    for row in rows:
        figures = [f"{row[n]:18.3f}" if row[n] is not None else f"{'-':>18}" for n in names]
        yield f"{row['backbone']:24}" + "".join(figures) + f"{row['build_cpu_s']:18.1f}{row['extract_cpu_s']:18.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="every 24th image at 64 px, few steps, one fold")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--more", action="store_true", help="other sizes too")
    parser.add_argument("--only", nargs="*", help="names of rows")
    chosen = parser.parse_args()
    small = {"image_side": 64, "crop_side": 64, "crops": 32, "depth": 2} if chosen.quick else {}
    cells, rows = elpv_mono(24 if chosen.quick else 1), []
    for name, changes in {**ROWS, **(MORE if chosen.more and not chosen.quick else {})}.items():
        if chosen.only and name not in chosen.only:
            continue
        steps = {"steps": min(changes.get("steps", 5), 5)} if chosen.quick else {}
        if chosen.quick and changes["model"] == "focus":
            steps["image_side"] = 56  # a multiple of its patches of 14 px
        config = BackboneConfig(**{**changes, **small, **steps})
        rows.append(measure(name, config, cells, 1 if chosen.quick else chosen.folds))
        lines = list(show(rows))
        print("\n".join(lines if len(rows) == 1 else lines[-1:]), flush=True)
    summary: dict[str, Any] = {row["backbone"]: row["gaussian_auroc"] for row in rows}
    cnn = BackboneConfig(**{**small, "model": "cnn"})
    summary |= batch_cost(cnn, cells.images(cnn.image_side)[:8])
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    result = {"name": "backbone", "machine": machine, "rows": rows, "summary": summary}
    chosen.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
