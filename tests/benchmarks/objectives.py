"""The pretraining objectives at equal budget on ELPV mono, against a random backbone.

    python -m tests.benchmarks.objectives --json FILE [--quick] [--folds 5] [--model hybrid|plain] [--seconds 60]

Rule of the budget: on fold 0 the pool of crops is drawn and 20 steps are trained; what drawing and a step cost in CPU
seconds gives the steps that fit into `--seconds` together with the drawing, in whole tens; these hold for all folds.
`random` is the same network without a step (for `hybrid`: behind its ImageNet CNN). All else has its default.

For each objective and fold the backbone is built on the fold's training images; denoising runs as in the pipeline with
default parameters (step 1 on 64 training images, then the denoiser). Score of a test image: largest distance of a
patch to the nearest of 5,000 patches of training images; on raw and on clean features. One thread, all seeds 0. Each
row is written when it is done, and a run goes on where FILE ends; the measured steps are kept with it. Differences to
`random` are paired: the same resamples of test images, stratified by class, for both; the mean over folds of each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.interface import Backbone
from stages.backbone.networks.load import load
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.registry import OBJECTIVES
from stages.backbone.pretrain import STEPS_PER_EPOCH, VALIDATION_CROPS, pretrain
from stages.denoise.config import DenoiseConfig, DenoiserConfig
from stages.denoise.denoiser import apply_denoiser, train_denoiser
from stages.denoise.per_image.denoise import Denoised, chosen_images, denoise_images
from stages.probe.neighbours import nearest_scores, sample_memory
from stages.score import metrics
from stages.score.intervals import bootstrap, percentile_interval
from stages.training import Session
from stages.types import Subset
from tests.benchmarks.backbone import Cells, elpv_mono
from tests.benchmarks.machine import machine

RANDOM = "random"
MEASURED_STEPS = 20
MEMORY, RESAMPLES, CONFIDENCE = 5000, 2000, 0.95
KINDS = ("raw", "clean")


@dataclass(frozen=True)
class Setting:
    """What a run is of; a file of another setting is not gone on with."""

    model: str
    seconds: float
    quick: bool

    def config(self, objective: str, steps: int) -> BackboneConfig:
        """Default parameters but for objective and steps; `quick`: small ones."""
        small: dict[str, Any] = {"image_side": 64, "crop_side": 64, "crops": 32, "depth": 2, "batch": 8}
        changes = small | {"dino": {"local_side": 32}} if self.quick else {}
        chosen = {"steps": 0} if objective == RANDOM else {"objective": objective, "steps": steps}
        return BackboneConfig(**{"model": self.model, **changes, **chosen})


@dataclass(frozen=True)
class Data:
    """The cells at the backbone's side, and as they come."""

    cells: Cells
    images: NDArray[np.uint8]

    @staticmethod
    def of(setting: Setting) -> Data:
        cells = elpv_mono(8 if setting.quick else 1)
        return Data(cells, cells.images(setting.config(RANDOM, 0).image_side))

    def part(self, fold: int, name: str) -> NDArray[np.int64]:
        return np.flatnonzero(self.cells.split(fold) == name)


def cost(setting: Setting, objective: str, data: Data) -> dict[str, Any]:
    """CPU seconds to draw, and a step; and the steps that fit."""
    config = setting.config(objective, 3 if setting.quick else MEASURED_STEPS)
    train, validation = (Subset(data.images, data.part(0, part)) for part in ("train", "validation"))
    fitted = build(setting.config(RANDOM, 0), train, validation, 0, Session())
    network: Any = (Plain if config.model == "plain" else Hybrid)(config)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in fitted.arrays.items()})
    start = time.process_time()
    draw = OBJECTIVES[objective].pool_sampler(network, config)
    draw(train, config.crops, 0)
    draw(validation, min(VALIDATION_CROPS, config.crops), 1)
    drawn = time.process_time() - start
    start = time.process_time()
    pretrain(network, train, validation, config, 0, Session())
    step = max(1e-3, (time.process_time() - start - drawn) / config.steps)
    fit = max(0, int((setting.seconds - drawn) / step))
    steps = max(1, fit - fit % STEPS_PER_EPOCH)
    return {"draw_cpu_s": round(drawn, 2), "step_cpu_s": round(step, 4), "steps": 3 if setting.quick else steps}


def measure(setting: Setting, objective: str, steps: int, fold: int, data: Data) -> dict[str, Any]:
    """One row: both kinds of features on the fold's test images."""
    start = time.process_time()
    parts = {name: data.part(fold, name) for name in ("train", "validation", "test")}
    chosen = (Subset(data.images, parts[part]) for part in ("train", "validation"))
    fitted = build(setting.config(objective, steps), *chosen, seed=0, session=Session())
    built = time.process_time() - start
    backbone = load(fitted, "cpu")
    tokens = {"raw": backbone.extract(data.images).tokens.astype(np.float16)}
    tokens["clean"] = denoised(setting, data, parts["train"], backbone, tokens["raw"])
    labels = data.cells.defect[parts["test"]]
    row: dict[str, Any] = {"objective": objective, "fold": fold, "steps": steps, "build_cpu_s": round(built, 1)}
    row["val_loss"] = fitted.metrics.get("val_loss")
    for kind in KINDS:
        memory = sample_memory(Subset(tokens[kind], parts["train"]), MEMORY, 0)
        scores = nearest_scores(memory, Subset(tokens[kind], parts["test"]))
        one = metrics.curve(scores, labels)
        row[f"{kind}_auroc"] = round(float(metrics.auroc(one.tp, one.fp)), 5)
        row[f"{kind}_scores"] = [float(f"{score:.6g}") for score in scores]
    return {**row, "labels": labels.astype(int).tolist(), "cpu_s": round(time.process_time() - start, 1)}


def denoised(
    setting: Setting, data: Data, train: NDArray[np.int64], backbone: Backbone, raw: NDArray[np.float16]
) -> NDArray[np.float16]:
    """Clean tokens of all images: step 1 on some training images as they come, the denoiser on these pairs."""
    config = DenoiseConfig(**({"images": 4, "views": 8} if setting.quick else {}))
    files = [data.cells.paths[i] for i in train]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    pairs = []
    for i in chosen_images(digests, config.images, 0):
        image = np.asarray(Image.open(files[i]).convert("RGB"))
        pairs += [
            one for one in denoise_images([image], [digests[i]], backbone, config, 0) if isinstance(one, Denoised)
        ]
    before, after = (np.stack([getattr(one, part) for one in pairs]).astype(np.float16) for part in ("raw", "clean"))
    fitted = train_denoiser(before, after, DenoiserConfig(**({"epochs": 2} if setting.quick else {})), 0)
    return apply_denoiser(fitted, "cpu")(raw.astype(np.float32)).astype(np.float16)


def table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line an objective over the folds that it and `random` have both."""
    by = {(row["objective"], row["fold"]): row for row in rows}
    lines = []
    for objective in dict.fromkeys(row["objective"] for row in rows):
        folds = [fold for name, fold in by if name == objective and (RANDOM, fold) in by]
        if not folds:
            continue
        own, other = ([by[name, fold] for fold in folds] for name in (objective, RANDOM))
        line: dict[str, Any] = {"objective": objective, "steps": own[0]["steps"], "folds": len(folds)}
        for kind in KINDS:
            values = [row[f"{kind}_auroc"] for row in own]
            gaps = np.mean([resampled(a, kind) - resampled(b, kind) for a, b in zip(own, other, strict=True)], axis=0)
            line[f"{kind}_auroc"] = round(float(np.mean(values)), 4)
            line[f"{kind}_range"] = [round(min(values), 4), round(max(values), 4)]
            mean = np.mean([a[f"{kind}_auroc"] - b[f"{kind}_auroc"] for a, b in zip(own, other, strict=True)])
            line[f"{kind}_to_random"] = round(float(mean), 4)
            line[f"{kind}_interval"] = [
                round(end, 4) for end in percentile_interval(gaps, CONFIDENCE, min(map(fewest, own)))
            ]
        lines.append(line)
    return lines


def resampled(row: dict[str, Any], kind: str) -> NDArray[np.float64]:
    """(RESAMPLES,) AUROC; the same images for every objective of a fold."""
    scores, labels = np.array(row[f"{kind}_scores"]), np.array(row["labels"], bool)
    images = np.arange(len(labels))
    return bootstrap(scores, labels, images, {"auroc": metrics.auroc}, RESAMPLES, row["fold"])["auroc"]


def fewest(row: dict[str, Any]) -> int:
    """Test images of the class that has fewer."""
    defects = sum(row["labels"])
    return min(defects, len(row["labels"]) - defects)


def write(path: Path, result: dict[str, Any]) -> None:
    """In one go, so that a cut run leaves a whole file."""
    lines = table(result["rows"])
    summary = {line["objective"]: line["clean_auroc"] for line in lines}
    part = path.with_suffix(".part")
    part.write_text(json.dumps({**result, "table": lines, "summary": summary}, indent=1) + "\n")
    part.replace(path)


def started(path: Path, setting: Setting) -> dict[str, Any]:
    """What the file holds already, or nothing."""
    new: dict[str, Any] = {"name": "objectives", "machine": machine(), "setting": vars(setting), "cost": {}, "rows": []}
    if not path.exists():
        return new
    old = json.loads(path.read_text())
    if old["setting"] != new["setting"]:
        raise SystemExit(f"{path} is of {old['setting']}, asked for is {new['setting']}; name another file")
    return {key: old[key] for key in new}


def todo(folds: int, rows: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Fold by fold, so that a cut run has whole folds."""
    done = {(row["fold"], row["objective"]) for row in rows}
    pairs = [(fold, name) for fold in range(folds) for name in (RANDOM, *OBJECTIVES)]
    return (pair for pair in pairs if pair not in done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="every eighth image at 64 px, three steps, one fold")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--model", choices=("hybrid", "plain"), default="hybrid")
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of drawing and training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(options.model, options.seconds, options.quick)
    result = started(options.json, setting)
    data = Data.of(setting)
    for objective in OBJECTIVES:
        if objective not in result["cost"]:
            result["cost"][objective] = cost(setting, objective, data)
            print(objective, *(f"{key} {value}" for key, value in result["cost"][objective].items()), flush=True)
            write(options.json, result)
    for fold, objective in todo(1 if options.quick else options.folds, result["rows"]):
        steps = 0 if objective == RANDOM else result["cost"][objective]["steps"]
        row = measure(setting, objective, steps, fold, data)
        result["rows"].append(row)
        write(options.json, result)
        shown = ("objective", "fold", "steps", "raw_auroc", "clean_auroc", "build_cpu_s", "cpu_s")
        print(*(f"{key} {row[key]}" for key in shown), sep="  ", flush=True)
    for line in table(result["rows"]):
        print(*(f"{key} {value}" for key, value in line.items()), sep="  ")


if __name__ == "__main__":
    main()
