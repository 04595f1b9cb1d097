"""The solvers of DVT's step 1: `python -m tests.benchmarks.dvt --json FILE [--quick] [--images N]`.

Two tables, each row printed; {"name", "machine", "rows", "summary"} is written.

Cost of `least_squares` (rows with `side`): CPU seconds of the best of a few runs at r = 2, with lambda chosen among the
default candidates and three robust passes; peak memory of a process that holds the tokens.

Comparison (rows with `solver`): `least_squares` against `neural_field` at 1,000 and 4,000 steps. Both get the same 20
views of an image, and are scored by the R^2 of F + G on 8 views that neither saw. Data `elpv`: cells of the package
elpv_dataset, tokens of the backbone `cnn` (14 x 14, 176 channels). Data `synthetic`: a plane wave a channel, white
artifact, noise, and 2 % high-norm tokens, which the score leaves out. A fit's time is CPU time in one thread; for
`least_squares` the median of three runs. It stands there with its defaults, and with three nodes a patch (`SOLVERS`),
whose figures in the summary have the ending `_r3`. Gaps in R^2 are taken to the better of the neural fits, chosen by
that very score: in favour of `neural_field`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.denoise.config import DenoiseConfig, NeuralFieldConfig
from stages.denoise.per_image import least_squares
from stages.denoise.per_image.decomposition import Decomposition
from stages.denoise.per_image.views import make_views
from tests.benchmarks.machine import machine

SIZES = {"14": (14, 192, 32, 5), "37": (37, 384, 96, 2)}
"""h = w, C, views, runs."""
QUICK = {"14": (14, 48, 8, 1), "37": (37, 16, 8, 1)}
VIEWS, UNSEEN = 20, 8
SOLVERS: dict[str, dict[str, Any]] = {
    "least_squares": {},
    "least_squares_r3": {"nodes_per_patch": 3, "smoothness": (0.02, 0.2, 2.0), "passes": 2},
}
STEPS = (1000, 4000)
HIGH_NORM = 5
"""Length of a high-norm token over that of another."""


@dataclass(frozen=True)
class Sample:
    """The views of one image: the first are fitted, the last `UNSEEN` scored."""

    tokens: NDArray[np.float32]
    """(V, h, w, C)."""
    coords: NDArray[np.float64]
    """(V, h, w, 2)."""
    good: NDArray[np.bool_]
    """(V, h, w) tokens that count in the score."""

    def r2(self, found: Decomposition) -> float:
        """On the unseen views, against the mean token of the fitted ones."""
        tokens, good = self.tokens[-UNSEEN:], self.good[-UNSEEN:]
        mean = self.tokens[:-UNSEEN][self.good[:-UNSEEN]].mean(0)
        rest = (tokens - found.F(self.coords[-UNSEEN:]) - found.G)[good]
        return float(
            1 - np.square(rest, dtype=np.float64).sum() / np.square(tokens - mean, dtype=np.float64)[good].sum()
        )


def synthetic(side: int, channels: int, views: int, seed: int, high_norm: float) -> Sample:
    """Plane waves of at most 3 periods + artifact + noise, and 2 % high-norm tokens."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side, 3), np.uint8)
    coords = make_views(image, side, (side, side), DenoiseConfig(views=views), seed, "benchmark").coords
    direction = rng.uniform(-3, 3, (channels, 2))
    tokens = np.sin(2 * np.pi * (coords @ direction.T) + rng.uniform(0, 2 * np.pi, channels)).astype(np.float32)
    tokens += 0.5 * rng.standard_normal((side, side, channels), dtype=np.float32)
    tokens += 0.1 * rng.standard_normal(tokens.shape, dtype=np.float32)
    outlier = rng.random(tokens.shape[:3]) < 0.02
    tokens[outlier] *= high_norm
    return Sample(tokens, coords, ~outlier)


def elpv(count: int, side: int) -> Iterator[Sample]:
    """Cells spread over the data set, seen by the CNN at `side` pixels; its statistics are of 16 other cells."""
    from stages.backbone.build import build
    from stages.backbone.config import BackboneConfig
    from stages.backbone.networks.load import load
    from stages.training import Session
    from tests.benchmarks.backbone import Cells, elpv_mono

    cells = elpv_mono(1)
    order = np.random.default_rng(0).permutation(len(cells.paths))[: 16 + count]
    chosen = Cells([cells.paths[i] for i in order], cells.numbers[order], cells.defect[order])
    few = chosen.images(side)[:16]
    backbone = load(build(BackboneConfig(model="cnn", image_side=side), few, few, seed=0, session=Session()), "cpu")
    config = DenoiseConfig(views=VIEWS + UNSEEN)
    for seed, image in enumerate(chosen.images(300)[16:]):  # 300 pixels: as they come
        views = make_views(image, side, backbone.grid, config, seed)
        tokens = backbone.extract(views.images).tokens
        yield Sample(tokens, views.coords, np.ones(tokens.shape[:3], bool))


def compare(data: str, image: int, sample: Sample, steps: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """The rows of one image."""
    from stages.denoise.per_image import neural_field

    tokens, coords = sample.tokens[:-UNSEEN], sample.coords[:-UNSEEN]
    grid = (tokens.shape[1], tokens.shape[2])
    for name, changes in SOLVERS.items():
        config, seconds = DenoiseConfig(views=VIEWS, **changes), []
        for _ in range(3):
            start = time.process_time()
            found = least_squares.solve(tokens, coords, grid, config)
            seconds.append(time.process_time() - start)
        yield row(data, image, name, None, float(np.median(seconds)), sample.r2(found))
    for count in steps:
        network = NeuralFieldConfig(steps=count)
        config = DenoiseConfig(views=VIEWS, held_out=0, smoothness=(0.1,), solver="neural_field", neural_field=network)
        start = time.process_time()
        found = neural_field.solve(tokens, coords, grid, config, "image", image)
        yield row(data, image, "neural_field", count, time.process_time() - start, sample.r2(found))


def row(data: str, image: int, solver: str, steps: int | None, seconds: float, r2: float) -> dict[str, Any]:
    return {
        "data": data,
        "image": image,
        "solver": solver,
        "steps": steps,
        "cpu_s": round(seconds, 4),
        "held_out_r2": round(r2, 5),
    }


def summarise(rows: list[dict[str, Any]], steps: tuple[int, ...]) -> dict[str, float]:
    """Ratios of CPU time, and the smallest lead in R^2 over the better neural fit, over all images of both kinds."""
    by = {(r["data"], r["image"], r["solver"], r["steps"]): r for r in rows}
    images = list(dict.fromkeys((r["data"], r["image"]) for r in rows))
    summary: dict[str, float] = {}
    for solver, ending in zip(SOLVERS, ("", "_r3"), strict=True):
        for count, name in zip(steps, ("", "_4000"), strict=True):
            pairs = [(by[*i, "neural_field", count]["cpu_s"], by[*i, solver, None]["cpu_s"]) for i in images]
            ratios = [neural / straight for neural, straight in pairs]
            summary[f"cpu_ratio_min{name}{ending}"] = round(min(ratios), 1)
            summary[f"cpu_ratio_median{name}{ending}"] = round(float(np.median(ratios)), 1)
        for data in dict.fromkeys(data for data, _ in images):
            gaps = [
                by[*i, solver, None]["held_out_r2"] - max(by[*i, "neural_field", n]["held_out_r2"] for n in steps)
                for i in images
                if i[0] == data
            ]
            summary[f"r2_gap_min_{data}{ending}"] = round(min(gaps), 5)
            summary[f"r2_gap_median_{data}{ending}"] = round(float(np.median(gaps)), 5)
        kinds = [value for key, value in summary.items() if key in {f"r2_gap_min_{d}{ending}" for d, _ in images}]
        summary[f"r2_gap_min{ending}"] = min(kinds)
    return summary


def measure(side: int, channels: int, views: int, runs: int) -> dict[str, float]:
    """A row of the first table."""
    sample = synthetic(side, channels, views, 0, 20)
    config, seconds = DenoiseConfig(views=views, nodes_per_patch=2), []
    for _ in range(runs):
        start = time.process_time()
        found = least_squares.solve(sample.tokens, sample.coords, (side, side), config)
        seconds.append(time.process_time() - start)
    return {
        "side": side,
        "channels": channels,
        "views": views,
        "nodes_per_patch": 2,
        "cpu_s": round(min(seconds), 4),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "held_out_r2": round(found.diagnostics["held_out_r2"], 4),
    }


def show(row: dict[str, Any]) -> None:
    print(*(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)


def costs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The first table, a process a row, so that the peak is its own."""
    for name in QUICK if options.quick else SIZES:
        command = [sys.executable, "-m", "tests.benchmarks.dvt", "--json", str(options.json), "--size", name]
        subprocess.run(command + ["--quick"] * options.quick, check=True)
        yield json.loads(options.json.read_text())


def samples(options: argparse.Namespace) -> Iterator[tuple[str, int, Sample]]:
    """The images of the second table."""
    count, side, channels = (2, 64, 16) if options.quick else (options.images, 224, 176)
    for image, sample in enumerate(elpv(count, side)):
        yield "elpv", image, sample
    for image in range(count):
        yield "synthetic", image, synthetic(side // 16, channels, VIEWS + UNSEEN, image, HIGH_NORM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--images", type=int, default=10, help="of each kind in the comparison")
    parser.add_argument("--size", choices=SIZES, help="measure this size alone, in this process")
    options = parser.parse_args()
    if options.size:
        options.json.write_text(json.dumps(measure(*(QUICK if options.quick else SIZES)[options.size])))
        return
    rows, compared, steps = [], [], (10, 30) if options.quick else STEPS
    for found in costs(options):
        rows.append(found)
        show(found)
    for data, image, sample in samples(options):
        for found in compare(data, image, sample, steps):
            compared.append(found)
            show(found)
    summary = summarise(compared, steps) | {
        "solve_14_cpu_s": rows[0]["cpu_s"],
        "solve_37_cpu_s": rows[1]["cpu_s"],
        "solve_37_peak_mb": rows[1]["peak_mb"],
    }
    result = {"name": "dvt", "machine": machine(), "rows": rows + compared, "summary": summary}
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
