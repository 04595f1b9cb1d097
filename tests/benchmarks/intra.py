"""InTra in pixels: many windows at once against one at a time, same weights, in one process.

    python -m tests.benchmarks.intra --json FILE [--quick] [--device cuda]

infer_ratio: one image inpainted window by window against all its windows in batches; images_per_s: the latter, without
what compares image and restoration. train_ratio: a training step whose windows are cut out and go through the network
one by one (gradients summed) against the vectorised step. gather_train_ratio: a step whose windows are cut out one by
one and go through the network together, against the same. gather_ratio: the cutting out alone. max_abs_diff: largest
difference of the two restorations, in [0, 1]. Each figure is the median over repetitions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.detectors.intra import windows as win
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.intra.restore import inpaint
from stages.detectors.intra.task import InpaintingTask, TrainingWindows
from tests.reference.intra_windows import centred_corner, view, window_pixels

SMALL = IntraConfig(space="pixels", width=64, window_side=5)
LARGER = IntraConfig(
    space="pixels", image_side=128, patch_side=8, window_side=7, blocks=6, width=128, smoothing_side=11
)
Gathered = tuple[Tensor, Tensor, Tensor]


def as_batch(
    images: list[np.ndarray], corners: list[tuple[int, int]], covered: list[int], config: IntraConfig
) -> Gathered:
    """Windows cut out one by one: the plain way. Corners and positions of the slow reference are 1-based."""
    pixels, positions = [], []
    for image, (r, s) in zip(images, corners, strict=True):
        places, patches = window_pixels(image, r, s, config.window_side, config.patch_side)
        positions.append(torch.tensor(places) - 1)
        pixels.append(torch.from_numpy(np.stack(patches).reshape(len(patches), -1)))
    return torch.stack(pixels), torch.stack(positions), torch.tensor(covered)


@torch.inference_mode()
def inpaint_one_by_one(network: InpaintingTransformer, image: np.ndarray, config: IntraConfig, device: str) -> Tensor:
    """What `inpaint` does, each window cut out and sent through the network alone."""
    canvas = config.canvas(image.shape)
    grid, patch = canvas.grid, canvas.patch
    result = torch.zeros(image.shape)
    for t in range(1, grid + 1):
        for u in range(1, grid + 1):
            r, s = (centred_corner(c, grid, config.window_side) for c in (t, u))
            covered = (t - r) * config.window_side + u - s
            pixels, positions, slot = (x.to(device) for x in as_batch([image], [(r, s)], [covered], config))
            painted = network(pixels.float() / 255, positions, slot).clamp(0, 1)
            y, x = (t - 1) * patch, (u - 1) * patch
            result[y : y + patch, x : x + patch] = painted.view(patch, patch, 3).cpu()
    return result


def seconds(work: Callable[[], object], repeats: int, device: str) -> float:
    """Median wall time; the first call warms up and does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def training(images: np.ndarray, config: IntraConfig, repeats: int, device: str) -> dict[str, float]:
    """Seconds of a gather and of a step, both ways."""
    canvas = config.canvas(images.shape[1:])
    task = InpaintingTask(build(config, canvas, 0), config).to(device)
    adam, _ = task.optimizer(1000)
    data, rng = TrainingWindows(images, canvas, config, 0, device), np.random.default_rng(0)
    allowed = win.views_allowed(config.rotations, config.flips)
    starts, tokens = canvas.grid - config.window_side + 1, config.window_side**2

    def gather() -> Gathered:
        return next(data.epoch(0))

    def gather_each() -> list[Gathered]:
        found = []
        for _ in range(config.batch):
            image = view(images[rng.integers(len(images))], int(rng.choice(allowed)))
            corner = (int(rng.integers(starts)) + 1, int(rng.integers(starts)) + 1)
            found.append(as_batch([image], [corner], [int(rng.integers(tokens))], config))
        return found

    def together(parts: list[Gathered]) -> Gathered:
        pixels, positions, covered = (torch.cat(one) for one in zip(*parts, strict=True))
        return pixels, positions, covered

    def step(parts: list[Gathered]) -> None:
        adam.zero_grad()
        for pixels, positions, covered in parts:
            loss = task.loss((pixels.to(device), positions.to(device), covered.to(device)))["loss"]
            (loss / len(parts)).backward()
        adam.step()

    return {
        "gather_s": seconds(gather, repeats, "cpu"),
        "gather_each_s": seconds(gather_each, repeats, "cpu"),
        "step_s": seconds(lambda: step([gather()]), repeats, device),
        "step_gathered_s": seconds(lambda: step([together(gather_each())]), max(2, repeats // 3), device),
        "step_each_s": seconds(lambda: step(gather_each()), max(2, repeats // 3), device),
    }


def measure(name: str, config: IntraConfig, repeats: int, device: str) -> dict[str, object]:
    """One row of the table."""
    side = config.image_side
    images = np.random.default_rng(0).integers(0, 256, (64, side, side, 3), dtype=np.uint8)
    canvas = config.canvas((side, side, 3))
    network = build(config, canvas, 0).eval().to(device)
    together = seconds(lambda: inpaint(network, images[0], canvas, config, device), 3 * repeats, device)
    alone = seconds(lambda: inpaint_one_by_one(network, images[0], config, device), repeats, device)
    difference = max(
        float(
            (inpaint(network, x, canvas, config, device).cpu() - inpaint_one_by_one(network, x, config, device))
            .abs()
            .max()
        )
        for x in images[:2]
    )
    times = training(images, config, repeats, device)
    return {
        "config": name,
        "images_per_s": 1 / together,
        "infer_ratio": alone / together,
        "train_windows_per_s": config.batch / times["step_s"],
        "train_ratio": times["step_each_s"] / times["step_s"],
        "gather_train_ratio": times["step_gathered_s"] / times["step_s"],
        "gather_ratio": times["gather_each_s"] / times["gather_s"],
        "max_abs_diff": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="at most a minute")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU here; use --device cpu")
    cases = [("64 px", SMALL), ("128 px", LARGER)]
    repeats = 1 if given.quick else 7
    rows = [measure(name, config, repeats, given.device) for name, config in cases[: 1 if given.quick else None]]
    for row in rows:
        print(
            "  ".join(
                f"{key} {value if isinstance(value, str) else format(value, '.3g')}" for key, value in row.items()
            )
        )
    summary = {key: rows[0][key] for key in ("infer_ratio", "train_ratio", "gather_train_ratio")}
    summary["max_abs_diff"] = max(row["max_abs_diff"] for row in rows)  # type: ignore[type-var]
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": given.device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    given.json.write_text(
        json.dumps({"name": "intra", "machine": machine, "rows": rows, "summary": summary}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
