"""What the images that set the threshold are worth: threshold, escape and overkill of every fold, by three rules.

    python -m tests.benchmarks.thresholds --json FILE [--quick] [--mvtec FOLDER] [--tiles FOLDER] [--detectors pca]

- `train`: the deployed model is fitted on training images; its scores of validation images set the threshold.
- `train_and_validation`: the same threshold; the deployed model is fitted on validation images too.
- `cross_fit`: each good training and validation image is scored by a model of the four fifths that do not hold its
  group; all these scores set the threshold. The deployed model is that of `train_and_validation`.

ELPV mono (five folds, split by modules), with `--mvtec` the category `screw` in the publisher's layout (the fold
chooses the validation images only), with `--tiles` the magnetic tiles. The target is an overkill of 5 %. The
threshold is given as a share of the median score of good test images, because scores have no unit. `score moved` is by
what factor the median score of good test images changes as the model is fitted on validation images too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbone.imagenet import extractor
from stages.detectors.interface import Detector, DetectorConfig, ImageNetConfig
from stages.detectors.registry import CONFIGS, detector
from stages.download.config import DataConfig
from stages.download.found import SourceImage
from stages.download.sources.registry import SOURCES
from stages.download.split import official_split_of, percentile_of
from stages.images import decode, to_square
from stages.score.calibration import deployed_threshold
from stages.score.metrics import auroc, curve
from stages.training import Session
from stages.types import Fitted, Samples
from tests.benchmarks.floors import remembered
from tests.benchmarks.machine import machine

TARGET = 0.05
FOLDS = 5
CROSS = 5
"""Parts of cross-fitting."""
RULES = ("train", "train_and_validation", "cross_fit")


class Data:
    """Images of a category, at one side."""

    def __init__(self, config: DataConfig) -> None:
        found = SOURCES[config.source](config, Path(config.folder))
        self.images = [one for one in found if isinstance(one, SourceImage)]
        self.groups = np.array([one.group for one in self.images])
        self.defect = np.array([not one.is_good for one in self.images])

    def split(self, fold: int) -> NDArray[np.str_]:
        has_validation = any(one.split == "validation" for one in self.images)
        of = [official_split_of(fold, one.group, one.is_good, one.split, has_validation) for one in self.images]
        return np.array(of)


def scores_of(method: Detector, fitted: Fitted, samples: Samples, config: DetectorConfig) -> NDArray[np.float64]:
    return np.array([one.image_score for one in method.score(fitted, samples, config, "cpu")])


def cross_fitted(
    method: Detector, good: Samples, groups: NDArray[np.str_], config: DetectorConfig
) -> NDArray[np.float64]:
    """Score of each good image by a model of the images whose groups lie in the other parts."""
    parts = np.array([percentile_of(f"cross-{group}") % CROSS for group in groups])
    scores = np.empty(len(good))
    for part in np.unique(parts):
        inside, outside = (good.take(np.flatnonzero(mask)) for mask in (parts == part, parts != part))
        # what ends the training of a network must not be what it is then measured on
        fitted = method.fit(outside, outside, config, 0, Session())
        scores[parts == part] = scores_of(method, fitted, inside, config)
    return scores


def measure(name: str, data: Data, samples: Samples, changes: dict[str, Any], fold: int) -> list[dict[str, Any]]:
    """One row a rule."""
    method, split = detector(name), data.split(fold)
    train, validation, test = (samples.take(np.flatnonzero(split == of)) for of in ("train", "validation", "test"))
    both = np.flatnonzero(split != "test")
    alone, joint = (CONFIGS[name](**{**changes, "fit_on": of}) for of in RULES[:2])
    training_model = method.fit(train, validation, alone, 0, Session())
    fitted = method.fit(train, validation, joint, 0, Session())
    held_out = scores_of(method, training_model, validation, alone)
    crossed = cross_fitted(method, samples.take(both), data.groups[both], alone)
    tested = {
        "train": scores_of(method, training_model, test, alone),
        "cross_fit": scores_of(method, fitted, test, joint),
    }
    tested["train_and_validation"] = tested["cross_fit"]
    bad = data.defect[split == "test"]
    middle = {rule: float(np.median(values[~bad])) for rule, values in tested.items()}
    rows = []
    for rule in RULES:
        calibration = crossed if rule == "cross_fit" else held_out
        threshold = deployed_threshold(calibration, TARGET)
        assert threshold.value is not None
        counts = curve(tested[rule], bad)
        rows.append(
            {
                "detector": name,
                "fold": fold,
                "rule": rule,
                "calibrated_on": len(calibration),
                "threshold": round(threshold.value / middle["train"], 4),
                "overkill": round(float((tested[rule][~bad] > threshold.value).mean()), 4),
                "escape": round(float((tested[rule][bad] <= threshold.value).mean()), 4),
                "auroc": round(float(auroc(counts.tp, counts.fp)), 4),
                "score_moved": round(middle["train_and_validation"] / middle["train"], 4),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown: of each data set, detector and rule, every fold's threshold, overkill and escape."""
    lines = [
        "| data | detector | rule | threshold | overkill | escape | AUROC |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key in dict.fromkeys((row["data"], row["detector"], row["rule"]) for row in rows):
        own = [row for row in rows if (row["data"], row["detector"], row["rule"]) == key]
        cells = [" ".join(f"{row['threshold']:.2f}" for row in own)]
        for rate in ("overkill", "escape"):
            mean = np.mean([row[rate] for row in own])
            cells.append(f"**{100 * mean:.1f} %**: " + " ".join(f"{100 * row[rate]:.0f}" for row in own))
        cells.append(f"{np.mean([row['auroc'] for row in own]):.3f}")
        lines.append(f"| {' | '.join((*key, *cells))} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one fold of a small PCA")
    parser.add_argument("--mvtec", type=Path, help="folder that holds screw/train, screw/test")
    parser.add_argument("--tiles", type=Path, help="folder that holds MT_Free and the defect folders")
    parser.add_argument("--detectors", nargs="*", default=["padim", "pca", "gabor"])
    options = parser.parse_args()
    sets = {"ELPV mono": DataConfig(source="elpv", categories=("mono",))}
    if options.mvtec:
        sets["MVTec screw"] = DataConfig(source="mvtec_ad", folder=str(options.mvtec), categories=("screw",))
    if options.tiles:
        sets["magnetic tiles"] = DataConfig(source="magnetic_tile", folder=str(options.tiles), categories=("tile",))
    rows: list[dict[str, Any]] = []
    for title, config in sets.items():
        data = Data(config)
        for name in ("pca",) if options.quick else options.detectors:
            changes: dict[str, Any] = {"image_side": 32} if options.quick else {}
            if name == "padim":
                changes["compare_features"] = False  # the backbone's tokens are not at hand
            detector_config = CONFIGS[name](**changes)
            side, extract = detector_config.input_side, None
            if isinstance(detector_config, ImageNetConfig):
                extract = remembered(extractor(detector_config.network, detector_config.patch, "cpu"))
            images = np.stack([to_square(decode(one.file.read_bytes()), side) for one in data.images])
            samples = Samples([str(i) for i in range(len(images))], images, imagenet=extract)
            for fold in range(1 if options.quick else FOLDS):
                rows += [{"data": title, **row} for row in measure(name, data, samples, changes, fold)]
                for row in rows[-len(RULES) :]:
                    print(*(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
                content = {"name": "thresholds", "machine": machine(), "rows": rows, "summary": {"rows": len(rows)}}
                options.json.write_text(json.dumps(content, indent=2) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
