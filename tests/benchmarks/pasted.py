"""Settings of a detector compared without a real defect: validation images against themselves with defects pasted.

    python -m tests.benchmarks.pasted --json FILE --detector intra [--set restore=network restore=mean ...] [--quick]

Fitted on the training images of a category and fold (`fit_on: train`); then the AUROC of its validation images (good,
of other groups) against the same images with a moved patch, a scratch, a dark spot, a shaded region and a dim part (one
of each kind an image), for each row of settings; `by_kind`: the AUROC of each. Settings are chosen by this, never by
test defects, to which it is a guide and no more. `ear` gets the tokens of an ImageNet CNN in place of the backbone's.
`--detector fused`: that of the members named by `--set ear intra padim`, each with its defaults, and what is left
without each.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from stages.backbone.imagenet import extractor
from stages.detectors.interface import DetectorConfig, ImageNetConfig
from stages.detectors.registry import CONFIGS, detector
from stages.download.split import split_of
from stages.fusion.config import FusedConfig
from stages.fusion.fusion import fit, fuse
from stages.images import decode, to_square
from stages.score.metrics import auroc, curve
from stages.training import Session
from stages.types import Samples, ScoreMap
from tests.benchmarks.denoiser import pasted
from tests.benchmarks.floors import Part, elpv, remembered, tiles
from tests.benchmarks.machine import machine

KINDS = ("moved patch", "scratch", "spot", "shade", "dim")
TOKENS_SIDE, TOKENS_PATCH = 224, 16
FULL_SIDE = 320
"""Side in pixels at which defects are pasted."""


def images_of(part: Part, fold: int, quick: bool) -> dict[str, NDArray[np.uint8]]:
    """`train`, `validation` and `pasted`: (N, FULL_SIDE, FULL_SIDE, 3)."""
    splits = np.array([split_of(fold, g, not bad) for g, bad in zip(part.groups, part.defect, strict=True)])
    found = {}
    for split in ("train", "validation"):
        rows = np.flatnonzero((splits == split) & ~part.defect)[: 12 if quick else None]
        found[split] = np.stack([to_square(decode(part.files[i].read_bytes()), FULL_SIDE) for i in rows])
    found["pasted"] = np.stack([one for i, image in enumerate(found["validation"]) for one in with_defects(image, i)])
    return found


def with_defects(image: NDArray[np.uint8], number: int) -> list[NDArray[np.uint8]]:
    """The image with a defect of each of `KINDS`."""
    return [
        *(pasted(image, number * 3 + kind, margins=(0, 0)) for kind in range(3)),
        shaded(image, number),
        dimmed(image, number),
    ]


def shaded(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The image (S, S, 3) with a region, bounded by smooth noise (as by Perlin's), darker or brighter."""
    rng, side = np.random.default_rng([number, 1]), len(image)
    noise = sum(gaussian_filter(rng.standard_normal((side, side)), side / cells) * side / cells for cells in (8, 24))
    covered = gaussian_filter((noise > np.quantile(noise, rng.uniform(0.75, 0.95))).astype(np.float64), 2)
    change = rng.choice([-1, 1]) * rng.uniform(4, 16) * covered
    return (image + change[..., None]).clip(0, 255).astype(np.uint8)


def dimmed(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The image (S, S, 3) of which all on one side of a straight line, a quarter of it or more, shines less."""
    rng, side = np.random.default_rng([number, 2]), len(image)
    angle, y, x = rng.uniform(0, 2 * np.pi), *np.mgrid[:side, :side] / side
    across = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)
    covered = gaussian_filter((across > np.quantile(across, rng.uniform(0, 0.75))).astype(np.float64), 1)
    return (image * (1 - rng.uniform(0.1, 0.5) * covered[..., None])).astype(np.uint8)


def samples(images: NDArray[np.uint8], config: DetectorConfig) -> Samples:
    """At the detector's side, with the tokens of an ImageNet CNN in place of the backbone's."""

    def resized(side: int) -> NDArray[np.uint8]:
        return np.stack([to_square(Image.fromarray(image), side) for image in images])

    tokens = extractor("lite0", TOKENS_PATCH, "cpu")(resized(TOKENS_SIDE)).astype(np.float16)
    return Samples([str(i) for i in range(len(images))], resized(config.input_side), raw=tokens, clean=tokens)


Found = dict[str, list[ScoreMap]]
"""`validation` and `pasted`, in order."""


def scored(name: str, settings: dict[str, Any], data: dict[str, NDArray[np.uint8]]) -> Found:
    """Fit a detector and score the images."""
    config, method = CONFIGS[name](**{"fit_on": "train"} | settings), detector(name)
    parts = {split: samples(images, config) for split, images in data.items()}
    if isinstance(config, ImageNetConfig):
        extract = remembered(extractor(config.network, config.patch, "cpu"))
        parts = {split: replace(one, imagenet=extract) for split, one in parts.items()}
    fitted = method.fit(parts["train"], parts["validation"], config, 0, Session())
    return {split: list(method.score(fitted, parts[split], config, "cpu")) for split in ("validation", "pasted")}


def scored_together(members: list[str], data: dict[str, NDArray[np.uint8]]) -> Found:
    """The fusion of detectors."""
    found = {name: scored(name, {}, data) for name in members}
    validation = {name: one["validation"] for name, one in found.items()}
    fitted = fit(
        {name: np.array([one.image_score for one in of]) for name, of in validation.items()},
        {name: [one.anomaly_map for one in of] for name, of in validation.items()},
        FusedConfig().map_pixels,
    )
    return {
        split: [fuse(fitted, {name: found[name][split][i] for name in members}) for i in range(len(data[split]))]
        for split in ("validation", "pasted")
    }


def _auroc(good: NDArray[np.float64], bad: NDArray[np.float64]) -> float:
    counted = curve(np.concatenate([good, bad]), np.repeat([False, True], [len(good), len(bad)]))
    return round(float(auroc(counted.tp, counted.fp)), 4)


def measure(name: str, rows: list[dict[str, Any]], data: dict[str, NDArray[np.uint8]]) -> list[dict[str, Any]]:
    """One line a row of settings."""
    lines = []
    for settings in rows:
        start = time.process_time()
        found = scored_together(list(settings), data) if name == "fused" else scored(name, settings, data)
        labels = np.repeat([False, True], [len(found["validation"]), len(found["pasted"])])
        every = [*found["validation"], *found["pasted"]]
        scores = {"image_score": np.array([one.image_score for one in every])}
        scores |= {key: np.array([one.extras[key] for one in every]) for key in every[0].extras}
        values = {key: _auroc(of[~labels], of[labels]) for key, of in scores.items()}
        good, bad = scores["image_score"][~labels], scores["image_score"][labels]
        by_kind = {kind: _auroc(good, bad[i :: len(KINDS)]) for i, kind in enumerate(KINDS)}
        line = {
            "detector": name,
            "settings": settings,
            **values,
            "by_kind": by_kind,
            "cpu_s": round(time.process_time() - start, 1),
        }
        print("  ".join(f"{key} {value}" for key, value in line.items()), flush=True)
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--detector", default="padim", choices=[*CONFIGS, "fused"])
    parser.add_argument("--data", default="mono", help="mono, poly, or the folder of the magnetic tiles")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], help="one row each: key=value, or several with commas")
    given = parser.parse_args()
    rows = [dict(pair.split("=", 1) for pair in row.split(",")) for row in given.set if "=" in row] or [{}]
    settings = [{key: yaml.safe_load(value) for key, value in row.items()} for row in rows]
    if given.detector == "fused":
        settings = [dict.fromkeys(given.set or FusedConfig().detectors, "default")]
    if given.quick:
        settings = [{"compare_features": False, "image_side": 64}]
    part = elpv(given.data) if given.data in ("mono", "poly") else tiles(Path(given.data))
    lines = measure(given.detector, settings, images_of(part, given.fold, given.quick))
    summary = {"image_score": max(line["image_score"] for line in lines)}
    result = {"name": "pasted", "machine": machine(), "rows": lines, "summary": summary}
    given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
