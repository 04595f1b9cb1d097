"""The audit: its time on 10,000 images, and what it finds where the truth is known.

    python -m tests.benchmarks.audit --json FILE [--quick] [--tiles FOLDER] [--mvtec FOLDER]

Time: the whole stage, pictures included, on drawn features of 14 x 14 x 176 and drawn images. Truth: ELPV's modules and
the tiles' parts (groups of the published split) say which images belong together. With every image a group of its own
the split leaks, by groups it does not: the share of good test images with a near-duplicate should tell one from the
other. With `--mvtec` MVTec AD's screws, all of them different parts: the share with a near-duplicate should be none. Of
every data set copies of images are planted, compressed, shifted, brightened and halved: all of them should be found.
Suspects: a twentieth of the training images are defects; how they rank among the good ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageChops
from sklearn.metrics import roc_auc_score

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.audit import audit
from stages.array_store import RowWriter
from stages.audit.config import AuditConfig
from stages.audit.same_picture import SIDE
from stages.audit.suspects import suspicion
from stages.audit.twins import Looks, looks, twins
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.load import load
from stages.download.config import DataConfig
from stages.download.phash import perceptual_hash
from stages.download.split import split_of
from stages.images import decode, to_square
from stages.training import Session
from tests.benchmarks.floors import Part, elpv, found, tiles
from tests.benchmarks.machine import machine

SHARE = 20
"""One in so many training images is a defect, where suspects are sought."""


def drawn_project(folder: Path, count: int) -> None:
    """Manifest, images and tokens of a category `part` below `folder`; a hundredth of the images are twins."""
    rng = np.random.default_rng(0)
    images = folder / paths.RAW / "images"
    images.mkdir(parents=True)
    rows, hashes = [], [rng.bytes(32).hex() for _ in range(count)]
    for i in range(count):
        again = i % 500 if i % 100 == 0 else i
        pixels = np.random.default_rng([1, again]).integers(0, 255, (32, 32), np.uint8)
        Image.fromarray(pixels).save(images / f"{i:06d}.png", compress_level=1)
        hashes[i] = hashes[again]
        one = {"path": f"images/{i:06d}.png", "sha256": f"{i:064x}", "category": "part", "label": 0}
        group, one["phash"] = str(i // 10), hashes[i]
        rows.append({**one, "group": group, "split": split_of(0, group, True), "defect_type": "", "mask_path": ""})
    pd.DataFrame(rows).to_parquet(folder / paths.MANIFEST)
    basis = rng.normal(size=(64, 176)).astype(np.float32)
    with RowWriter(folder / paths.FEATURES / "tokens.zarr", count) as writer:
        for _ in range(count):
            writer.append((rng.normal(size=(14, 14, 64)).astype(np.float32) @ basis).astype(np.float16))


def seconds_of_stage(count: int) -> float:
    params = Params(data=DataConfig(source="folder", categories=("part",)))
    with tempfile.TemporaryDirectory() as scratch:
        drawn_project(Path(scratch), count)
        with contextlib.chdir(scratch):
            start = time.perf_counter()
            audit(params)
            return time.perf_counter() - start


@dataclass(frozen=True)
class Seen:
    """What the audit sees of images."""

    hashes: list[str]
    tokens: NDArray[np.float16]
    images: NDArray[np.uint8]

    def looks(self, more: Seen | None = None) -> Looks:
        """Of these images, and of more."""
        if more is None:
            return looks(self.hashes, self.tokens, self.images, AuditConfig())
        tokens, images = np.concatenate([self.tokens, more.tokens]), np.concatenate([self.images, more.images])
        return looks([*self.hashes, *more.hashes], tokens, images, AuditConfig())

    def take(self, rows: NDArray[np.int64]) -> Seen:
        return Seen([self.hashes[i] for i in rows], self.tokens[rows], self.images[rows])


class Reader:
    """The CNN alone, fitted on good images."""

    def __init__(self, good: list[Image.Image], side: int) -> None:
        images = np.stack([to_square(one, side) for one in good])
        fitted = build(BackboneConfig(model="cnn", image_side=side), images, images, 0, Session())
        self._backbone, self._side = load(fitted, "cpu"), side

    def see(self, files: list[Image.Image]) -> Seen:
        images = (to_square(one, self._side)[None] for one in files)
        tokens = np.concatenate([self._backbone.extract(one).tokens.astype(np.float16) for one in images])
        return Seen([perceptual_hash(one) for one in files], tokens, np.stack([to_square(one, SIDE) for one in files]))


def compressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed": compressed,
    "shifted": lambda image: ImageChops.offset(image, 3, 2),
    "brightened": lambda image: image.point(lambda value: min(255, int(1.2 * value + 5))),
    "halved": lambda image: image.reduce(2),
}


def copies_found(originals: list[Image.Image], seen: Seen, reader: Reader) -> dict[str, float]:
    """Share of planted copies of good images that are found among the good images, by kind of copy."""
    rows, found = np.arange(len(originals)), {}
    chosen = rows[:: max(1, len(originals) // 30)]
    for kind, copy in COPIES.items():
        both = seen.looks(reader.see([copy(originals[i]) for i in chosen]))
        result = twins(both, len(rows) + np.arange(len(chosen)), rows, AuditConfig())
        found[f"copies_{kind}"] = round(float((result.partner == chosen).mean()), 4)
    return found


def leak_shares(part: Part, seen: Looks, folds: int) -> dict[str, float]:
    """Share of good test images with a near-duplicate before the test, mean of the folds: by groups, and by images."""
    config, found = AuditConfig(), {}
    for name, groups in (("by_groups", part.groups), ("by_images", [f"image-{i}" for i in range(len(part.files))])):
        shares = []
        for fold in range(folds):
            pairs = zip(groups, part.defect, strict=True)
            splits = np.array([split_of(fold, group, not bad) for group, bad in pairs])
            test = np.flatnonzero((splits == "test") & ~part.defect)
            shares.append(float(twins(seen, test, np.flatnonzero(splits != "test"), config).has_partner.mean()))
        found[name] = float(np.mean(shares))
    return found


def pair_precision(part: Part, seen: Looks) -> float | None:
    """Share of images whose closest near-duplicate among all others is of their group, of those that have one; None if
    no image has one."""
    config, rows = AuditConfig(), np.arange(len(part.files))
    groups, hits = np.array(part.groups), []
    for i in rows:
        others = np.delete(rows, i)
        one = twins(seen, rows[i : i + 1], others, config)
        if one.has_partner[0]:
            hits.append(groups[others[one.partner[0]]] == groups[i])
    return round(float(np.mean(hits)), 4) if hits else None


def suspects_auroc(part: Part, tokens: NDArray[np.float16], seed: int) -> float:
    """AUROC of the suspicion of defects that were put among the good images of fold 0's training."""
    splits = np.array([split_of(0, group, not bad) for group, bad in zip(part.groups, part.defect, strict=True)])
    good = np.flatnonzero(splits == "train")
    bad = np.random.default_rng(seed).choice(np.flatnonzero(part.defect), max(2, len(good) // SHARE), replace=False)
    rows = np.concatenate([good, bad])
    found = suspicion(tokens[rows], [part.groups[i] for i in rows], AuditConfig(), 0)
    assert found is not None  # there are several groups
    return float(roc_auc_score(part.defect[rows], found.scores))


def truth(name: str, part: Part, side: int, folds: int) -> dict[str, Any]:
    files = [decode(file.read_bytes()) for file in part.files]
    good = np.flatnonzero(~part.defect)
    originals = [files[i] for i in good]
    reader = Reader(originals, side)
    all_seen = reader.see(files)
    seen = all_seen.looks()
    shares = leak_shares(part, seen, folds)
    aurocs = [suspects_auroc(part, all_seen.tokens, seed) for seed in range(folds)]
    row = {
        "data": name,
        "images": len(files),
        "leak_share_split_by_groups": round(shares["by_groups"], 4),
        "leak_share_split_by_images": round(shares["by_images"], 4),
        "closest_is_of_the_same_group": pair_precision(part, seen),
        "suspects_auroc": round(float(np.mean(aurocs)), 4),
        **copies_found(originals, all_seen.take(good), reader),
    }
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="500 images, every third cell at 64 px, one fold")
    parser.add_argument("--tiles", type=Path, help="folder that holds MT_Free and the defect folders")
    parser.add_argument("--mvtec", type=Path, help="folder that holds screw/train, screw/test")
    options = parser.parse_args()
    count, folds, side = (500, 1, 64) if options.quick else (10_000, 5, 224)
    parts = {"elpv mono": elpv("mono")} | ({} if options.quick else {"elpv poly": elpv("poly")})
    if options.tiles:
        parts["tiles"] = tiles(options.tiles)
    if options.mvtec:
        parts["screw"] = found(DataConfig(source="mvtec_ad", folder=str(options.mvtec), categories=("screw",)))
    if options.quick:
        mono = parts["elpv mono"]
        parts = {"elpv mono": Part(mono.files[::3], mono.groups[::3], mono.defect[::3])}
    seconds = seconds_of_stage(count)
    print(f"{count} images: {seconds:.1f} s with {os.cpu_count()} cores", flush=True)
    rows = [truth(name, part, side, folds) for name, part in parts.items()]
    result = {
        "name": "audit",
        "machine": machine(),
        "rows": [{"images": count, "seconds": round(seconds, 2)}, *rows],
        "summary": {"seconds_10k": round(seconds, 2)},
    }
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
