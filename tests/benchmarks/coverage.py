"""Where to cut: how much of the defects' pixels lies under EAR's mask, by what the mask is made from.

    python -m tests.benchmarks.coverage --json FILE [--tiles FOLDER] [--mvtec FOLDER] [--fold 0] [--quick]

A mask is the most salient 15 % of an image (`mask_of`), so a mask drawn at random covers 0.15. Sources of saliency:
class attention of blocks of the pretrained ViT `focus` (mean over heads), the saliency network that its package
carries, and rarity of tokens: of blocks of `focus`, and of an ImageNet CNN. `true`: share of all labelled defect pixels
of test images; `pasted`: of the pixels that pasting a defect on validation images changed (moved patch, scratch, spot).
The magnetic tiles and MVTec AD's screws have masks. `--quick`: eight images of ELPV mono, which has none.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.imagenet import extractor
from stages.backbone.networks.load import LoadedBackbone, load
from stages.backbone.saliency import SaliencyNetwork
from stages.detectors.ear.mask import attention_saliency, mask_of, rarity
from stages.detectors.shared.nearest import Search, sample_memory
from stages.download.config import DataConfig
from stages.download.masks import marked_pixels
from stages.images import decode, to_square
from stages.score.pixels import mask_coverage
from stages.training import Session
from tests.benchmarks.machine import machine
from tests.benchmarks.pasted import FULL_SIDE, with_defects
from tests.benchmarks.thresholds import Data

SIDE, AREA = 224, 0.15
ATTENTION, RARITY = (3, 6, 9, 12), (6, 9, 12)
"""Blocks of `focus`."""
MEMORY, NEIGHBOURS, TRAINING = 5000, 3, 120
"""As EAR's by default, from at most so many training images."""
CHANGED = 8
"""Grey values by which a pasted defect must change a pixel."""
Images = NDArray[np.uint8]
Planes = list[NDArray[np.float32]]


@dataclass(frozen=True)
class Suspects:
    """Images with defects, and which pixels are defective."""

    images: Images
    truth: list[NDArray[np.bool_]]


def square(images: list[Image.Image]) -> Images:
    return np.stack([to_square(image, SIDE) for image in images])


def labelled(data: Data, rows: NDArray[np.intp]) -> Suspects:
    """The defective images among `rows` that have masks."""
    own = [data.images[i] for i in rows if data.images[i].masks]
    truth = []
    for one in own:
        planes = [marked_pixels(mask.read_bytes(), one.mask_above) for mask in one.masks]
        truth.append(np.any(planes, axis=0))
    return Suspects(square([decode(one.file.read_bytes()) for one in own]) if own else np.empty(0, np.uint8), truth)


def pasted(good: list[Image.Image]) -> Suspects:
    """Each image with a moved patch, with a scratch and with a spot."""
    images, truth = [], []
    for number, one in enumerate(good):
        before = to_square(one, FULL_SIDE)
        for after in with_defects(before, number)[:3]:
            images.append(Image.fromarray(after))
            truth.append((np.abs(after.astype(int) - before) > CHANGED).any(-1))
    return Suspects(square(images), truth)


def vit(block: int, images: Images) -> LoadedBackbone:
    config = BackboneConfig(model="focus", image_side=SIDE, blocks=(block,))
    return load(build(config, images, images, 0, Session()), "cpu")


def planes_of(training: Images, suspects: list[Suspects]) -> Iterator[tuple[str, list[Planes]]]:
    """(source of saliency, planes of each image) for each source in turn."""
    for block in sorted({*ATTENTION, *RARITY}):
        backbone = vit(block, training[:1])
        features = [backbone.extract(one.images) for one in suspects]
        if block in ATTENTION:
            planes = []
            for one in features:
                assert one.attention is not None
                planes.append([attention_saliency(attention) for attention in one.attention])
            yield f"attention, focus {block}", planes
        if block in RARITY:
            yield f"rarity, focus {block}", rare(backbone.extract(training).tokens, [one.tokens for one in features])
    network = SaliencyNetwork(SIDE)
    yield "saliency network", [list(network(one.images)) for one in suspects]
    cnn = extractor("lite0", 16, "cpu")
    yield "rarity, CNN", rare(cnn(training), [cnn(one.images) for one in suspects])


def rare(training: NDArray[np.float32], suspects: list[NDArray[np.float32]]) -> list[Planes]:
    count, height, width, _ = training.shape
    search = Search(sample_memory([training], count, height * width, MEMORY, 0), NEIGHBOURS, "cpu")
    return [[rarity(tokens, search, -1) for tokens in one] for one in suspects]


def covered(planes: Planes, truth: list[NDArray[np.bool_]]) -> float | None:
    masks = (mask_of(plane, SIDE, AREA).astype(np.float32) for plane in planes)
    share = mask_coverage(masks, truth, AREA)
    return None if share is None else round(share, 4)


def measure(title: str, data: Data, fold: int, quick: bool) -> list[dict[str, Any]]:
    """A row for each source of saliency."""
    split = data.split(fold)
    rows = {name: np.flatnonzero(split == name) for name in ("train", "validation", "test")}
    if quick:
        rows = {name: own[:8] for name, own in rows.items()}
    files = {name: [data.images[i].file for i in own] for name, own in rows.items()}
    training = square([decode(file.read_bytes()) for file in files["train"][:: -(-len(files["train"]) // TRAINING)]])
    suspects = {
        "true": labelled(data, rows["test"]),
        "pasted": pasted([decode(file.read_bytes()) for file in files["validation"]]),
    }
    suspects = {name: one for name, one in suspects.items() if one.truth}  # not all data sets have masks
    found = []
    for source, planes in planes_of(training, list(suspects.values())):
        values: dict[str, float | None] = {"true": None, "pasted": None}
        for (name, one), own in zip(suspects.items(), planes, strict=True):
            values[name] = covered(own, one.truth)
        found.append({"data": title, "fold": fold, "source": source, **values})
        print(f"{title}: {source}: true {values['true']}, pasted {values['pasted']}", flush=True)
    return found


def data_sets(options: argparse.Namespace) -> dict[str, DataConfig]:
    if options.quick:
        return {"ELPV mono": DataConfig(source="elpv", categories=("mono",))}
    sets = {}
    if options.tiles:
        sets["tiles"] = DataConfig(source="magnetic_tile", folder=str(options.tiles), categories=("tile",))
    if options.mvtec:
        sets["screw"] = DataConfig(source="mvtec_ad", folder=str(options.mvtec), categories=("screw",))
    return sets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--tiles", type=Path, help="folder of the magnetic tiles")
    parser.add_argument("--mvtec", type=Path, help="folder of MVTec AD with the category screw")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="eight images of ELPV mono, pasted defects only")
    options = parser.parse_args()
    sets = data_sets(options)
    if not sets:
        parser.error("nothing to measure: give --tiles, --mvtec or --quick")
    rows = [row for title, one in sets.items() for row in measure(title, Data(one), options.fold, options.quick)]
    pasted_alone = [row["pasted"] for row in rows]
    content = {"name": "coverage", "machine": machine(), "rows": rows, "summary": {"best_pasted": max(pasted_alone)}}
    options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
