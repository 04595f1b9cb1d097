"""EAR and InTra at the papers' sizes on MVTec AD's screws, judged by what they restore, in pixels.

    python -m tests.benchmarks.restoration --json FILE --mvtec FOLDER --detector intra [--device cuda] [--seconds 400]

The publisher's split; every tenth good image is left out of training and decides which epoch is kept. The profile
`paper` with a cosine of the learning rate and half precision on a GPU; `--set` changes more. `--seconds`: training gets
as many epochs as that time allows, found by timing a few. Rows: image AUROC (95 % interval, bootstrap) by each
comparison of image and restoration, seconds to train and for an image. EAR cuts by the class attention of `focus`
(`--blocks`), which `--attention FILE` keeps, so that a machine without its package can use it. `--quick`: tiny networks
and 24 images, drawn ones without `--mvtec`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from pipeline.project.profiles import PROFILES
from stages.detectors.registry import CONFIGS, detector
from stages.detectors.shared.restoration_config import RestorationConfig
from stages.images import decode, to_square
from stages.training import Session
from stages.types import Samples, ScoreMap
from tests.benchmarks.machine import machine
from tests.benchmarks.rates import image_auroc, interval

CHANGED: dict[str, dict[str, Any]] = {
    "ear": {"compare_masks": False, "mixed_precision": True, "fit_on": "train"},
    "intra": {"schedule": "cosine", "mixed_precision": True, "fit_on": "train"},
}
"""Where a row differs from the profile."""
QUICK: dict[str, dict[str, Any]] = {
    "ear": {"image_side": 32, "width": 4, "depth": 1, "epochs": 2},
    "intra": {"image_side": 32, "patch_side": 4, "window_side": 3, "blocks": 2, "width": 16, "heads": 2}
    | {"windows_per_image": 10, "epochs": 2, "smoothing_side": 3},
}
TIMED = {"windows_per_image": 40, "epochs": 3}
"""Epochs that are timed have fewer windows of an image."""
ATTENTION_SIDE = 224


class _Timed(Exception):
    pass


def files(folder: Path, quick: bool) -> dict[str, list[Path]]:
    """Of `train`, `validation` and `test`; a test image is good if its folder is `good`."""
    good, test = sorted((folder / "train/good").iterdir()), sorted((folder / "test").glob("*/*"))
    if quick:
        good, test = good[:16], test[:: max(1, len(test) // 8)]
    return {
        "train": [path for i, path in enumerate(good) if i % 10],
        "validation": good[::10],
        "test": test,
    }


def images_of(paths: list[Path], side: int) -> NDArray[np.uint8]:
    return np.stack([to_square(decode(path.read_bytes()), side) for path in paths])


def attention_of(paths: list[Path], blocks: list[int] | None, kept: Path | None) -> NDArray[np.float16]:
    """(N, heads, h, w) class attention of `focus`, from the file `kept` if it is there."""
    key = [str(Path(*path.parts[-3:])) for path in paths]
    if kept is not None and kept.exists():
        with np.load(kept) as stored:
            where = {str(name): i for i, name in enumerate(stored["names"])}
            rows: NDArray[np.float16] = stored["attention"][[where[name] for name in key]]
            return rows
    from stages.backbone.build import build
    from stages.backbone.config import BackboneConfig
    from stages.backbone.networks.load import load

    config = BackboneConfig(model="focus", image_side=ATTENTION_SIDE, blocks=None if blocks is None else tuple(blocks))
    images = images_of(paths, ATTENTION_SIDE)
    attention = load(build(config, images, images, 0, Session()), "cpu").extract(images).attention
    assert attention is not None
    if kept is not None:
        np.savez(kept, names=np.array(key), attention=attention.astype(np.float16))
    return attention.astype(np.float16)


def parts_of(options: argparse.Namespace, config: RestorationConfig) -> dict[str, Samples]:
    found = files(options.mvtec / "screw", options.quick)
    parts = {
        split: Samples([str(path) for path in paths], images_of(paths, config.input_side))
        for split, paths in found.items()
    }
    if options.detector == "ear":
        rows = attention_of([path for paths in found.values() for path in paths], options.blocks, options.attention)
        ends = np.cumsum([len(paths) for paths in found.values()])[:-1]
        for (split, part), own in zip(parts.items(), np.split(rows, ends), strict=True):
            parts[split] = replace(part, attention=own)
    return parts


def epochs_in(
    seconds: float, name: str, config: RestorationConfig, parts: Mapping[str, Samples], options: argparse.Namespace
) -> int:
    """As many epochs as the time allows, from the time between the ends of the second and the third epoch."""
    fewer = {key: value for key, value in TIMED.items() if key in type(config).model_fields}
    ends: list[float] = []

    def end(epoch: int, _: Mapping[str, float]) -> None:
        ends.append(time.perf_counter())
        if epoch == 2:
            raise _Timed

    try:
        session = Session(on_epoch=end, device=options.device)
        detector(name).fit(parts["train"], parts["validation"], config.model_copy(update=fewer), options.seed, session)
    except _Timed:
        pass
    windows = getattr(config, "windows_per_image", 1) / fewer.get("windows_per_image", 1)
    return max(2, int(seconds / ((ends[2] - ends[1]) * windows)))


def measured(options: argparse.Namespace) -> dict[str, Any]:
    name = options.detector
    changed = {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in options.set)}
    small = QUICK[name] if options.quick else {}
    paper: Mapping[str, Any] = PROFILES["paper"][name]
    config: Any = CONFIGS[name](**{**paper, **CHANGED[name], **small, **changed})
    parts = parts_of(options, config)
    if options.seconds:
        epochs = epochs_in(options.seconds, name, config, parts, options)
        config = config.model_copy(update={"epochs": epochs})
    start = time.perf_counter()
    done: list[float] = []

    def end(epoch: int, values: Mapping[str, float]) -> None:
        done.append(time.perf_counter() - start)
        print(f"epoch {epoch + 1}/{config.epochs}", f"{done[-1]:.0f} s", dict(values), flush=True)

    session = Session(on_epoch=end, device=options.device)
    fitted = detector(name).fit(parts["train"], parts["validation"], config, options.seed, session)
    fit_s, start = time.perf_counter() - start, time.perf_counter()
    results: list[ScoreMap] = list(detector(name).score(fitted, parts["test"], config, options.device))
    score_s = (time.perf_counter() - start) / len(results)
    defect = np.array([Path(path).parent.name != "good" for path in parts["test"].ids])
    scores = {f"{config.compare} (deployed)": np.array([one.image_score for one in results])}
    scores |= {kind: np.array([one.extras[kind] for one in results]) for kind in results[0].extras}
    rows = [
        {"by": kind, "image_auroc": image_auroc(values, defect), "ci": interval(values, defect, parts["test"].ids)}
        for kind, values in scores.items()
    ]
    return {
        "rows": rows,
        "summary": {
            "image_auroc": rows[0]["image_auroc"],
            "epochs": len(done),
            "train_s": round(done[-1], 1),
            "fit_s": round(fit_s, 1),
            "score_s": round(score_s, 4),
        },
        "images": {split: len(part) for split, part in parts.items()},
        "settings": config.model_dump(mode="json"),
        "metrics": dict(fitted.metrics),
        "seed": options.seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--mvtec", type=Path, help="folder that holds screw/train, screw/test")
    parser.add_argument("--detector", choices=("ear", "intra"), default="intra")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, help="time for training; without it the profile's epochs")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the detector")
    parser.add_argument("--blocks", nargs="*", type=int, help="of `focus`, whose attention EAR cuts by")
    parser.add_argument("--attention", type=Path, help="file that keeps this attention")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny networks and 24 images")
    options = parser.parse_args()
    if options.mvtec is None and not options.quick:
        parser.error("--mvtec is missing: the folder that holds screw/train and screw/test")
    with tempfile.TemporaryDirectory() as scratch:
        if options.mvtec is None:
            options.mvtec = Path(scratch)
            draw(options.mvtec)
        report(options)


def draw(folder: Path) -> None:
    """Stripes in the publisher's layout; the defective ones have a bright square."""
    rng = np.random.default_rng(0)
    stripes = np.where(np.arange(64) % 16 < 8, 90, 160)
    for name, count in (("train/good", 16), ("test/good", 4), ("test/square", 4)):
        (folder / "screw" / name).mkdir(parents=True)
        for i in range(count):
            image = stripes + rng.normal(0, 8, (64, 64))
            if name == "test/square":
                image[20:36, 20:36] = 250
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "screw" / name / f"{i}.png")


def report(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    found = {"name": "restoration", "machine": machine(), "detector": options.detector, **measured(options)}
    for row in found["rows"]:
        print(f"| {options.detector} by {row['by']} | {row['image_auroc']} | {row['ci']} |")
    print(json.dumps(found["summary"]))
    options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
