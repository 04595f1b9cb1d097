"""What denoising takes off and what it leaves, without a test image: `python -m tests.benchmarks.denoiser --json FILE`.

ELPV mono, fold 0, tokens of the backbone `cnn`. Step 1 and the denoiser run on training cells. Positional leakage is
fitted on training cells and read on validation cells; image AUROC is that of the nearest neighbour (`neighbours`)
between validation cells and the same with a defect pasted in: a patch moved, a scratch, or a dark spot. Rows: settings
of `denoise`; each for raw tokens, tokens less the mean artifact (`denoiser.blocks: 0` at its start), and the denoiser.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from stages.denoise.config import DenoiseConfig, DenoiserConfig
from stages.probe.neighbours import nearest_scores, sample_memory
from tests.benchmarks.machine import machine

SETTINGS: dict[str, dict[str, Any]] = {
    "crops 0.1 to 0.5 (paper)": {"crop_area": (0.1, 0.5)},
    "crops 0.25 to 1": {"crop_area": (0.25, 1.0)},
    "crops 0.5 to 1 (default)": {},
    "crops 0.7 to 1": {"crop_area": (0.7, 1.0)},
    "three nodes a patch": {"nodes_per_patch": 3, "smoothness": (0.02, 0.2, 2.0)},
}
Images = NDArray[np.uint8]
Tokens = NDArray[np.float32]


def pasted(image: Images, number: int, margins: tuple[float, float] = (0.15, 0.2)) -> Images:
    """The image (S, S, 3) with a moved patch, a scratch, or a dark spot, by turns.

    Args:
        margins: how far from the border, as a share of S, scratches begin and spots have their middle at the least.
    """
    rng, side = np.random.default_rng(number), image.shape[0]
    changed = image.astype(np.float64)
    y, x = np.mgrid[:side, :side]
    if number % 3 == 0:
        height, width = (rng.uniform(0.06, 0.14, 2) * side).astype(int)
        (top, left), (other, beside) = (rng.integers(0, [side - height, side - width]) for _ in range(2))
        changed[top : top + height, left : left + width] = image[other : other + height, beside : beside + width]
    elif number % 3 == 1:
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.3) * side
        steps = np.linspace(0, 1, 200)[:, None] * length * [np.sin(angle), np.cos(angle)]
        places = (rng.uniform(margins[0], 1 - margins[0], 2) * side + steps).astype(int).clip(0, side - 1)
        line = np.zeros((side, side))
        line[places[:, 0], places[:, 1]] = 1
        line = gaussian_filter(line, 1.0)
        changed -= line[..., None] / line.max() * rng.uniform(30, 70)
    else:
        centre = rng.uniform(margins[1], 1 - margins[1], 2) * side
        near = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * (0.07 * side) ** 2))
        texture = gaussian_filter(rng.standard_normal((side, side)), 0.05 * side)
        spot = gaussian_filter((texture > 0.5 * texture.std()) * near, 1.5)
        changed -= spot[..., None] * rng.uniform(25, 60)
    return changed.clip(0, 255).astype(np.uint8)


def measure(name: str, settings: dict[str, Any], quick: bool, data: dict[str, Any]) -> list[dict[str, Any]]:
    """Three rows."""
    from stages.denoise.denoiser import apply_denoiser, train_denoiser
    from stages.denoise.per_image.denoise import Denoised, denoise_images
    from stages.probe.leakage import positional_leakage

    config = DenoiseConfig(**({"views": 8} if quick else {}) | settings)
    start = time.process_time()
    names = [str(i) for i in range(len(data["full"]))]
    found = [
        one
        for image, digest in zip(data["full"], names, strict=True)
        for one in denoise_images([image], [digest], data["backbone"], config, 0)
        if isinstance(one, Denoised)
    ]
    raw, clean = (np.stack([getattr(one, part) for one in found]) for part in ("raw", "clean"))
    apply = apply_denoiser(train_denoiser(raw, clean, DenoiserConfig(**({"epochs": 2} if quick else {})), 0), "cpu")
    artifact = (raw - clean).mean(0)
    seconds = time.process_time() - start
    rows = []
    for kind, change in (("raw", None), ("mean artifact", lambda tokens: tokens - artifact), ("denoiser", apply)):
        train, good, bad = (data[part] if change is None else change(data[part]) for part in ("train", "good", "bad"))
        memory = sample_memory(train, 5000, 0)
        scores = np.concatenate([nearest_scores(memory, good), nearest_scores(memory, bad)])
        rows.append(
            {
                "setting": name,
                "tokens": kind,
                "positional_leakage": round(positional_leakage(train[: len(raw)], good).mean, 4),
                "image_auroc": round(float(roc_auc_score(np.repeat([0, 1], len(good)), scores)), 4),
                "held_out_r2": round(float(np.mean([one.diagnostics["held_out_r2"] for one in found])), 4),
                "cpu_s": round(seconds, 1),
            }
        )
    return rows


def load_data(quick: bool) -> dict[str, Any]:
    """Backbone, cells as they come (`full`), tokens of training cells and of validation cells, bare and pasted."""
    from stages.backbone.build import build
    from stages.backbone.config import BackboneConfig
    from stages.backbone.networks.load import load
    from stages.training import Session
    from tests.benchmarks.backbone import elpv_mono

    side = 96 if quick else 224
    cells = elpv_mono(20 if quick else 1)
    split, images = cells.split(0), cells.images(side)
    train, good = images[split == "train"], images[split == "validation"]
    config = BackboneConfig(model="cnn", image_side=side, crop_side=side)
    backbone = load(build(config, train, good, 0, Session()), "cpu")
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(split == "train"))[: 6 if quick else 64]
    return {
        "backbone": backbone,
        "full": [np.asarray(Image.open(cells.paths[i]).convert("RGB")) for i in np.sort(chosen)],
        "train": backbone.extract(train).tokens,
        "good": backbone.extract(good).tokens,
        "bad": backbone.extract(np.stack([pasted(image, i) for i, image in enumerate(good)])).tokens,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="few cells, small images, one setting")
    options = parser.parse_args()
    data = load_data(options.quick)
    rows = []
    for name in ["crops 0.5 to 1 (default)"] if options.quick else SETTINGS:
        for row in measure(name, SETTINGS[name], options.quick, data):
            print(*(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
            rows.append(row)
    own = {row["tokens"]: row for row in rows if row["setting"].endswith("(default)")}
    summary = {
        f"{figure}_{kind.replace(' ', '_')}": own[kind][figure]
        for kind in own
        for figure in ("positional_leakage", "image_auroc")
    }
    result = {"name": "denoiser", "machine": machine(), "rows": rows, "summary": summary}
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
