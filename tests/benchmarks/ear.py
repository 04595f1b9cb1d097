"""EAR: images a second in scoring: by pixels at 128 and 64 px, and by tokens, as it is by default.

    python -m tests.benchmarks.ear --json FILE [--quick] [--device cuda]

One mask an image from rarity among 5,000 features of normal images, one forward pass, and the map; by
default the ImageNet CNN's features of the image first. Random weights cost the same. Scoring uses one
thread; `images_per_s` is that rate times the cores, as processes side by side give, and `images_per_s_core` the rate
measured. Median over repetitions.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.stage_io.samples import imagenet_of
from stages.detectors.ear import detector
from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.restore import new_network
from stages.detectors.shared.nearest import sample_memory
from stages.detectors.shared.network_weights import weights_of
from stages.detectors.shared.pixel_maps import PIXEL_KINDS
from stages.detectors.shared.token_space import RestFitter, TokenSpace, read_tokens
from stages.types import Fitted, Samples
from tests.benchmarks.machine import machine

GRID, CHANNELS = 14, 176
"""Of the default backbone's tokens."""


def untrained(config: EarConfig, samples: Samples) -> Fitted:
    """A model of the configured size whose weights were drawn."""
    assert samples.raw is not None
    tokens = samples.raw[:]
    torch.manual_seed(0)
    network = new_network(config, 3 if config.space == "pixels" else config.channels)
    arrays: dict[str, Any] = weights_of(network)
    memory = sample_memory([tokens], len(tokens), GRID * GRID, config.memory_size, 0)
    arrays |= memory.to_arrays(f"memory.{config.mask}.")
    if config.space == "pixels":
        plane = np.ones((config.image_side, config.image_side), np.float32)
        arrays |= {f"{config.mask}.{by}.{name}": plane for by in PIXEL_KINDS for name in ("mean", "spread")}
    else:
        good = read_tokens(samples, config.features)
        arrays |= RestFitter(TokenSpace.fit(good, config.channels)).add(good, np.zeros_like)
    return Fitted(arrays, info={"kinds": [config.mask], "scale": 8})


def measure(config: EarConfig, images: int, repeats: int, device: str) -> dict[str, Any]:
    """One row of the table."""
    side = config.input_side
    generator = np.random.default_rng(0)
    tokens = generator.normal(size=(images, GRID, GRID, CHANNELS)).astype(np.float16)
    pixels = generator.integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    extract = imagenet_of(config, detector.needs(config), device)
    samples = Samples([str(i) for i in range(images)], pixels, raw=tokens, imagenet=extract)
    fitted = untrained(config, samples)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        for _ in detector.score(fitted, samples, config, device):
            pass
        times.append(time.perf_counter() - start)
    rate = images / statistics.median(times[1:])
    cores = 1 if device != "cpu" else len(os.sched_getaffinity(0))
    settings = {"space": config.space, "side": config.input_side}
    return settings | {"images_per_s_core": rate, "images_per_s": rate * cores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    given = parser.parse_args()
    images, repeats = (8, 1) if given.quick else (64, 5)
    pixels, default = EarConfig(compare_masks=False, space="pixels", width=16, depth=3), EarConfig(compare_masks=False)
    cases = [pixels.model_copy(update={"image_side": 128}), pixels, default]
    rows = [measure(config, images, repeats, given.device) for config in cases]
    for row in rows:
        shown = (f"{key} {format(value, '.3g') if isinstance(value, float) else value}" for key, value in row.items())
        print("  ".join(shown), flush=True)
    summary = {"images_per_s": rows[0]["images_per_s"]}
    result = {"name": "ear", "machine": machine(), "rows": rows, "summary": summary}
    given.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
