"""The audit: its time on 10,000 images, and what it finds where the truth is known.

    python -m tests.benchmarks.audit --json FILE [--quick] [--tiles FOLDER]

Time: the whole stage, pictures included, on drawn features of 14 x 14 x 176 and drawn images. Truth: ELPV's modules and
the tiles' parts (groups of the published split) say which images belong together. With every image a group of its own
the split leaks, by groups it does not: the share of good test images with a near-duplicate should tell one from the
other. Suspects: a twentieth of the training images are defects; how they rank among the good ones.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.stage_io.audit import audit
from stages.array_store import RowWriter
from stages.audit.config import AuditConfig
from stages.audit.suspects import suspicion
from stages.audit.twins import looks, twins
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.load import load
from stages.download.config import DataConfig
from stages.download.phash import perceptual_hash
from stages.download.split import split_of
from stages.images import decode
from stages.training import Session
from tests.benchmarks.floors import Part, elpv, tiles
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
        Image.fromarray(rng.integers(0, 255, (32, 32), np.uint8)).save(images / f"{i:06d}.png", compress_level=1)
        if i >= 500 and i % 100 == 0:
            hashes[i] = hashes[i - 500]
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


def read(part: Part, side: int) -> tuple[list[str], NDArray[np.float16]]:
    """Perceptual hashes, and tokens of the CNN alone fitted on the good images."""
    images = part.images(side)
    good = images[~part.defect]
    backbone = load(build(BackboneConfig(model="cnn", image_side=side), good, good, 0, Session()), "cpu")
    hashes = [perceptual_hash(decode(file.read_bytes())) for file in part.files]
    return hashes, np.concatenate([backbone.extract(one[None]).tokens.astype(np.float16) for one in images])


def leak_shares(part: Part, hashes: list[str], tokens: NDArray[np.float16], folds: int) -> dict[str, float]:
    """Share of good test images with a near-duplicate before the test, mean of the folds: by groups, and by images."""
    config, found = AuditConfig(), {}
    seen = looks(hashes, tokens, config)
    for name, groups in (("by_groups", part.groups), ("by_images", [f"image-{i}" for i in range(len(hashes))])):
        shares = []
        for fold in range(folds):
            pairs = zip(groups, part.defect, strict=True)
            splits = np.array([split_of(fold, group, not bad) for group, bad in pairs])
            test = np.flatnonzero((splits == "test") & ~part.defect)
            shares.append(float(twins(seen, test, np.flatnonzero(splits != "test"), config).has_partner.mean()))
        found[name] = float(np.mean(shares))
    return found


def pair_precision(part: Part, hashes: list[str], tokens: NDArray[np.float16]) -> float:
    """Share of images whose closest near-duplicate among all others is of their group, of those that have one."""
    config, rows = AuditConfig(), np.arange(len(hashes))
    seen = looks(hashes, tokens, config)
    groups, hits = np.array(part.groups), []
    for i in rows:
        others = np.delete(rows, i)
        one = twins(seen, rows[i : i + 1], others, config)
        if one.has_partner[0]:
            hits.append(groups[others[one.partner[0]]] == groups[i])
    return float(np.mean(hits))


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
    hashes, tokens = read(part, side)
    shares = leak_shares(part, hashes, tokens, folds)
    aurocs = [suspects_auroc(part, tokens, seed) for seed in range(folds)]
    row = {
        "data": name,
        "images": len(hashes),
        "leak_share_split_by_groups": round(shares["by_groups"], 4),
        "leak_share_split_by_images": round(shares["by_images"], 4),
        "closest_is_of_the_same_group": round(pair_precision(part, hashes, tokens), 4),
        "suspects_auroc": round(float(np.mean(aurocs)), 4),
    }
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="500 images, every third cell at 64 px, one fold")
    parser.add_argument("--tiles", type=Path, help="folder that holds MT_Free and the defect folders")
    options = parser.parse_args()
    count, folds, side = (500, 1, 64) if options.quick else (10_000, 5, 224)
    parts = {"elpv mono": elpv("mono")} | ({} if options.quick else {"elpv poly": elpv("poly")})
    if options.tiles:
        parts["tiles"] = tiles(options.tiles)
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
