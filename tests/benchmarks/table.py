"""Recipes on frozen features, on four data sets: a CNN's maps and the tokens of the pretrained ViT `focus`.

    python -m tests.benchmarks.table --json FILE [--tiles FOLDER] [--mvtec FOLDER] [--folds 0 1 2 3 4] [--keep FOLDER]

ELPV mono and poly and the magnetic tiles (grouped folds), MVTec AD's screws (publisher's split; the fold chooses the
validation images only). Each row is a detector with its settings (`ROWS`), fitted on training images; `fused ...` rows
are the mean of the members' rank-normalized image scores. Written after every fit: image scores, image AUROC with its
95 % interval (bootstrap of groups), overkill and escape at the threshold for 5 % overkill, seconds of CPU to fit and an
image. `pasted`: AUROC of validation images against themselves with defects pasted, which is what settings may be chosen
by; `chosen` marks the best row by it, and `regret` is what the best row by test images has more. FILE is written after
every row, and rows that it holds are not run again; `--keep` keeps the tokens. `--quick`: 40 images of ELPV mono.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backbone.imagenet import extractor
from stages.detectors.interface import DetectorConfig, ImageNetConfig
from stages.detectors.registry import CONFIGS, detector
from stages.download.config import DataConfig
from stages.fusion.fusion import fit_knots, normalize
from stages.score.calibration import deployed_threshold
from stages.training import Session
from stages.types import Samples
from tests.benchmarks.floors import remembered
from tests.benchmarks.frozen_tokens import Part, Tokens, parts_of, tokens_of
from tests.benchmarks.machine import machine
from tests.benchmarks.rates import image_auroc, interval
from tests.benchmarks.thresholds import Data


@dataclass(frozen=True)
class Row:
    """A detector with its settings; `side` and `blocks` are those of the tokens, if it reads tokens."""

    detector: str
    settings: dict[str, Any]
    side: int = 224
    blocks: tuple[int, ...] = ()
    images: bool = False
    """Whether it reads images beside tokens."""


NEAREST = {"features": "raw", "compare_features": False, "coreset": "random", "smoothing": 1.0}
ROWS: dict[str, Row] = {
    "padim, CNN": Row("padim", {"compare_features": False}),
    "knn, CNN": Row("knn", {"features": "imagenet", "compare_features": False}),
    "knn, focus 9, spread, 5,000 greedy": Row("knn", {"features": "raw", "compare_features": False}, blocks=(9,)),
    **{
        f"knn, focus {'+'.join(map(str, blocks))}, {metric}, 20,000{', top 1 %' if share else ''}": Row(
            "knn", {**NEAREST, "metric": metric, "memory_size": 20_000, "top_share": share}, blocks=blocks
        )
        for blocks, metric, share in (
            ((6,), "cosine", 0.0),
            ((9,), "cosine", 0.0),
            ((12,), "cosine", 0.0),
            ((9,), "euclidean", 0.0),
            ((9,), "cosine", 0.01),
            ((6, 9), "cosine", 0.0),
        )
    },
    "padim, focus 9": Row("padim", {"features": "raw", "compare_features": False}, blocks=(9,)),
    "subspace, CNN": Row("subspace", {"features": "imagenet", "compare_features": False}),
    "subspace, focus 9": Row("subspace", {"compare_features": False}, blocks=(9,)),
    "subspace, focus 6+9": Row("subspace", {"compare_features": False}, blocks=(6, 9)),
    "subspace, focus 6+9, 448 px": Row("subspace", {"compare_features": False}, side=448, blocks=(6, 9)),
    "padim, focus 6+9": Row("padim", {"features": "raw", "compare_features": False}, blocks=(6, 9)),
    "context, CNN": Row("context", {}),
    "context, focus 6+9": Row("context", {"features": "raw", "surroundings": 4}, blocks=(6, 9)),
    "ear, CNN": Row("ear", {"compare_masks": False}, blocks=(9,), images=True),
    "ear, CNN, mean": Row("ear", {"compare_masks": False, "restore": "mean"}, blocks=(9,), images=True),
    "intra, CNN": Row("intra", {}),
    "intra, CNN, mean": Row("intra", {"restore": "mean"}),
}
FUSED = {
    "fused: padim CNN, knn focus 9": ("padim, CNN", "knn, focus 9, cosine, 20,000"),
    "fused: padim CNN, knn CNN": ("padim, CNN", "knn, CNN"),
    "fused: padim CNN, padim focus 9": ("padim, CNN", "padim, focus 9"),
    "fused: padim CNN, subspace focus 6+9": ("padim, CNN", "subspace, focus 6+9"),
    "fused: padim CNN, knn CNN, subspace focus 6+9": ("padim, CNN", "knn, CNN", "subspace, focus 6+9"),
    "fused: context, padim CNN": ("context, CNN", "padim, CNN"),
    "fused: context, knn CNN": ("context, CNN", "knn, CNN"),
    "fused: context, padim, knn CNN": ("context, CNN", "padim, CNN", "knn, CNN"),
    "fused: context, padim, knn, intra CNN": ("context, CNN", "padim, CNN", "knn, CNN", "intra, CNN"),
    "fused: context, padim, ear CNN": ("context, CNN", "padim, CNN", "ear, CNN"),
    "fused: context, padim, intra CNN": ("context, CNN", "padim, CNN", "intra, CNN"),
    "fused: context, padim, ear, intra CNN": ("context, CNN", "padim, CNN", "ear, CNN", "intra, CNN"),
    "fused: padim CNN, padim and knn focus 9": ("padim, CNN", "padim, focus 9", "knn, focus 9, cosine, 20,000"),
}


def samples_of(part: Part, row: Row, config: DetectorConfig, keep: Path) -> Samples:
    ids = [f"{part.name}-{i}" for i in range(part.count)]
    if not row.blocks:
        return Samples(ids, part.images(config.input_side))
    # a detector of tokens alone does not look at images
    images = part.images(config.input_side) if row.images else np.zeros((part.count, 1, 1, 3), np.uint8)
    return Samples(ids, images, raw=Tokens(tokens_of(part, row.side, keep), row.blocks))


def scored(row: Row, parts: dict[str, Part], keep: Path) -> dict[str, Any]:
    """Image scores of `validation`, `test` and `pasted`, and seconds of CPU."""
    config, method = CONFIGS[row.detector](**{**row.settings, "fit_on": "train"}), detector(row.detector)
    samples = {name: samples_of(part, row, config, keep) for name, part in parts.items()}
    if isinstance(config, ImageNetConfig) and (row.images or not row.blocks):
        extract = remembered(extractor(config.network, config.patch, "cpu"))
        samples = {name: replace(one, imagenet=extract) for name, one in samples.items()}
    start = time.process_time()
    fitted = method.fit(samples["train"], samples["validation"], config, 0, Session())
    found: dict[str, Any] = {"fit_s": round(time.process_time() - start, 1)}
    for name in ("validation", "test", "pasted"):
        start = time.process_time()
        found[name] = [one.image_score for one in method.score(fitted, samples[name], config, "cpu")]
        if name == "test":
            found["image_s"] = round((time.process_time() - start) / len(found[name]), 4)
    return found


def figures(scores: dict[str, Any], defect: NDArray[np.bool_], groups: Sequence[str]) -> dict[str, Any]:
    """What the scores are worth."""
    test, validation, pasted = (np.array(scores[name]) for name in ("test", "validation", "pasted"))
    threshold = deployed_threshold(validation, 0.05).value
    assert threshold is not None
    return {
        "image_auroc": image_auroc(test, defect),
        "ci": interval(test, defect, groups),
        "overkill": round(float((test[~defect] > threshold).mean()), 4),
        "escape": round(float((test[defect] <= threshold).mean()), 4),
        "pasted": image_auroc(np.concatenate([validation, pasted]), np.arange(6 * len(validation)) >= len(validation)),
    }


def together(members: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of the members' rank-normalized image scores."""
    knots = [fit_knots(np.array(one["validation"])) for one in members]
    fused: dict[str, Any] = {
        name: np.mean(
            [normalize(np.array(one[name]), of) for one, of in zip(members, knots, strict=True)], axis=0
        ).tolist()
        for name in ("validation", "test", "pasted")
    }
    return fused | {name: round(sum(one[name] for one in members), 4) for name in ("fit_s", "image_s")}


def regrets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By data set and fold: the row that pasted defects choose, its AUROC, and what the best row has more."""
    found = []
    for key in dict.fromkeys((row["data"], row["fold"]) for row in rows):
        own = [row for row in rows if (row["data"], row["fold"]) == key]
        chosen, best = (max(own, key=lambda row: row[by]) for by in ("pasted", "image_auroc"))
        regret = round(best["image_auroc"] - chosen["image_auroc"], 4)
        found.append({"data": key[0], "fold": key[1], "chosen": chosen["row"], "best": best["row"], "regret": regret})
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown: mean over the folds of image AUROC [interval], overkill / escape, pasted, seconds."""
    titles = list(dict.fromkeys(row["data"] for row in rows))
    lines = [f"| | {' | '.join(titles)} | fit | an image |", f"| --- |{' ---: |' * (len(titles) + 2)}"]
    for name in dict.fromkeys(row["row"] for row in rows):
        cells = []
        for title in titles:
            own = [row for row in rows if (row["row"], row["data"]) == (name, title)]
            if not own:
                cells.append("–")
                continue
            mean = {key: np.mean([row[key] for row in own], axis=0) for key in ("image_auroc", "ci", "pasted")}
            rates = " / ".join(f"{100 * np.mean([row[key] for row in own]):.0f}" for key in ("overkill", "escape"))
            low, high = mean["ci"]
            cells.append(f"{mean['image_auroc']:.3f} ({low:.3f} to {high:.3f}), {rates} %, pasted {mean['pasted']:.3f}")
        every = [row for row in rows if row["row"] == name]
        fit, image = (np.median([row[key] for row in every]) for key in ("fit_s", "image_s"))
        lines.append(f"| {name} | {' | '.join(cells)} | {fit:.0f} s | {image:.2f} s |")
    return "\n".join(lines)


def data_sets(options: argparse.Namespace) -> dict[str, DataConfig]:
    if options.quick:
        return {"ELPV mono": DataConfig(source="elpv", categories=("mono",))}
    sets = {f"ELPV {kind}": DataConfig(source="elpv", categories=(kind,)) for kind in ("mono", "poly")}
    if options.tiles:
        sets["tiles"] = DataConfig(source="magnetic_tile", folder=str(options.tiles), categories=("tile",))
    if options.mvtec:
        sets["screw"] = DataConfig(source="mvtec_ad", folder=str(options.mvtec), categories=("screw",))
    return {title: one for title, one in sets.items() if not options.data or title in options.data}


def written(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    chosen = regrets(rows)
    summary = {
        "rows": len(rows),
        "mean_regret": round(float(np.mean([one["regret"] for one in chosen])), 4) if chosen else None,
    }
    content = {"name": "table", "machine": machine(), "rows": rows, "chosen": chosen, "summary": summary}
    options.json.write_text(json.dumps(content) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="folder for tokens, 0.6 MB an image; temporary without it")
    parser.add_argument("--tiles", type=Path, help="folder that holds MT_Free and the defect folders")
    parser.add_argument("--mvtec", type=Path, help="folder that holds screw/train, screw/test")
    parser.add_argument("--folds", type=int, nargs="*", default=[0])
    parser.add_argument("--data", nargs="*", help="titles of data sets; all without it")
    parser.add_argument("--only", nargs="*", help="names of rows; all without it")
    parser.add_argument("--quick", action="store_true", help="40 images, two rows, tokens at 56 px")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(options, options.keep or Path(scratch))


def measure(options: argparse.Namespace, keep: Path) -> None:
    """All rows that FILE does not hold yet."""
    rows = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    wanted = {name: row for name, row in ROWS.items() if not options.only or name in options.only}
    if options.quick:
        small = replace(ROWS["knn, focus 9, cosine, 20,000"], side=56)
        wanted = {"padim, CNN": replace(ROWS["padim, CNN"], settings={"compare_features": False, "image_side": 64})}
        wanted |= {"knn, focus 9, cosine, 20,000": small}
    for title, config in data_sets(options).items():
        data = Data(config)
        for fold in options.folds:
            parts, test = parts_of(title, data, fold, options.quick)
            done = {row["row"]: row["scores"] for row in rows if (row["data"], row["fold"]) == (title, fold)}
            for name in (*wanted, *FUSED):
                members = FUSED.get(name)
                if name in done or (members and any(one not in done for one in members)):
                    continue
                done[name] = together([done[one] for one in members]) if members else scored(wanted[name], parts, keep)
                scores = done[name]
                line = figures(scores, data.defect[test], [str(one) for one in data.groups[test]])
                line |= {"fit_s": scores["fit_s"], "image_s": scores["image_s"]}
                print(title, fold, name, line, flush=True)
                rows.append({"data": title, "fold": fold, "row": name, **line, "scores": scores})
                written(options, rows)
    written(options, rows)
    print(table(rows))
    for one in regrets(rows):
        print(one)


if __name__ == "__main__":
    main()
