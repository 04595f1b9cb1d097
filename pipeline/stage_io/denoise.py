"""Stage `denoise`: DVT stage 1 on some training and validation images, through the item cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.fan_out import fan_out
from pipeline.params import Params
from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.saving import load_fitted, output
from pipeline.stage_io.session import bar, open_cache, report_counts
from stages.array_store import RowWriter
from stages.denoise.config import DenoiseConfig
from stages.download.images import decode
from stages.item_cache import Item, code_version, item_key
from stages.types import Fitted, UserError

if TYPE_CHECKING:
    from stages.backbone.interface import Backbone
    from stages.denoise.decomposition import Terms

CHUNK = {"cpu": 4, "cuda": 16}
"""Images that a worker gets at once; on a GPU they are solved together."""

MODULES = """banded batched batched_equations decomposition denoise grid least_squares neural_field neural_modules
normal_equations problem smoothness solvers views"""
CODE = tuple(f"stages.denoise.{name}" for name in MODULES.split())
"""The modules that decide what stage 1 says of an image; the others of the package may change without new items."""


@dataclass(frozen=True)
class DenoiseWork:
    """What a worker does with (digest, file) of images."""

    backbone: Fitted
    config: DenoiseConfig
    seed: int
    device: str

    def keys(self, digests: Iterable[str]) -> list[str]:
        """Item keys of images."""
        code = code_version(*CODE, "stages.backbone", "stages.download.images")
        parameters = {"denoise": self.config.of_one_image(), "seed": self.seed, "device": self.device}
        weights = self.backbone.info["digest"]
        return [item_key(image=sha, weights=weights, parameters=parameters, code=code) for sha in digests]

    @cached_property
    def _loaded(self) -> Backbone:
        from stages.backbone.load import load

        return load(self.backbone, self.device)

    def __call__(self, payloads: Sequence[tuple[str, bytes]]) -> Iterator[Item]:
        from stages.denoise.denoise import denoise_images

        images = [np.asarray(decode(file)) for _, file in payloads]
        digests = [digest for digest, _ in payloads]
        for done in denoise_images(images, digests, self._loaded, self.config, self.seed, self.device):
            if isinstance(done, UserError):  # one bad image never stops the others: it is recorded and left out
                yield {"fault": _text(str(done))}
                continue
            item: dict[str, NDArray[Any]] = {
                "raw": done.raw.astype(np.float16),
                "clean": done.clean.astype(np.float16),
                "artifact": done.artifact.astype(np.float16),
                "residual": done.residual.astype(np.float32),
                "diagnostics": _text(json.dumps(dict(done.diagnostics), sort_keys=True)),
            }
            if not all(np.isfinite(item[name]).all() for name in ("raw", "clean", "artifact")):
                yield {"fault": _text("tokens are beyond 65,504, the most that float16 holds; check the backbone")}
                continue
            if done.terms is not None:
                item |= {"schur": done.terms.schur, "right": done.terms.right, "response": done.terms.response}
            yield item


def denoise(params: Params) -> None:
    """data/denoised: raw.zarr, clean.zarr, artifact.zarr (M, h, w, C) float16, residual.zarr, images.parquet.

    images.parquet has a row an image, faulty ones too; the column `row` says where it stands in the stores, -1 nowhere.
    """
    from stages.denoise.denoise import chosen_images
    from stages.torch_setup import device_named

    manifest, config = read_manifest(), params.denoise
    sha = manifest["sha256"].to_numpy()

    def chosen(split: str, count: int) -> NDArray[np.int64]:
        rows = rows_of(manifest, None, split, label=0)
        return rows[chosen_images(sha[rows].tolist(), count, params.seed)]

    images = manifest.iloc[np.concatenate([chosen("train", config.images), chosen("validation", config.probe_images)])]
    images = images[["path", "sha256", "category", "split"]].reset_index(drop=True)
    fitted, _ = load_fitted(paths.BACKBONE)
    work = DenoiseWork(fitted, config, params.seed, device_named(params.compute.device))
    keys = work.keys(images["sha256"])
    cache = open_cache(params.compute)

    def payload(i: int) -> tuple[str, bytes]:
        return images["sha256"][i], (paths.RAW / images["path"][i]).read_bytes()

    def items(progress: Callable[[int], None] = lambda done: None) -> Iterator[Item]:
        return fan_out(params.compute, cache, keys, payload, work, CHUNK[work.device], progress)

    shown, at = bar("denoise", len(keys))
    with shown:
        images, shared = _overview(images, items(at), config)
    counts = (cache.counts.cached, cache.counts.computed)
    with output(paths.DENOISED) as folder:  # the items once more: all of them need not fit into the memory
        images.to_parquet(folder / "images.parquet", index=False)
        _save(folder, items(), int((images["row"] >= 0).sum()), shared)
    cache.counts.cached, cache.counts.computed = counts
    report_counts("denoise", cache.counts, cache)


def _text(value: str) -> NDArray[np.uint8]:
    return np.frombuffer(value.encode(), np.uint8)


Shared = tuple[NDArray[np.float64], float]
"""The artifact of all images together (P, C), and how strongly each image's own is drawn to it."""


def _overview(images: pd.DataFrame, items: Iterator[Item], config: DenoiseConfig) -> tuple[pd.DataFrame, Shared | None]:
    """The images with fault, diagnostics and row; the shared artifact, where one is asked for."""
    from stages.denoise.shared import SharedArtifact

    faults, diagnostics, shared = [], [], SharedArtifact()
    for split, item in zip(images["split"], items, strict=True):
        faults.append(item["fault"].tobytes().decode() if "fault" in item else "")
        diagnostics.append(item["diagnostics"].tobytes().decode() if "fault" not in item else "")
        if "schur" in item and split == "train":
            shared.add(_terms(item))
    bad = np.array([fault != "" for fault in faults])
    if bad[(images["split"] == "train").to_numpy()].all():
        raise UserError(f"denoise: not one of the training images could be denoised; the first: {faults[0]}")
    if bad.any():
        where = paths.DENOISED / "images.parquet"
        print(f"denoise: {bad.sum()} of {len(bad)} images left out, the reasons are in {where}; the first: "
              f"{images['path'][int(bad.argmax())]}: {faults[int(bad.argmax())]}")  # fmt: skip
    row = np.where(bad, -1, np.cumsum(~bad) - 1)
    table = images.assign(fault=faults, diagnostics=diagnostics, row=row)
    if not config.shared_artifact:
        return table, None
    return table, (shared.estimate(config.artifact_ridge), config.artifact_ridge)


def _terms(item: Item) -> Terms:
    from stages.denoise.decomposition import Terms

    return Terms(schur=item["schur"], right=item["right"], response=item["response"])


def _save(folder: Path, items: Iterator[Item], count: int, shared: Shared | None) -> None:
    with ExitStack() as stack:
        names = ("raw", "clean", "artifact", "residual")
        writers = {name: stack.enter_context(RowWriter(folder / f"{name}.zarr", count)) for name in names}
        for item in items:
            if "fault" in item:
                continue
            row = item if shared is None else _drawn(item, shared)
            for name in names:
                writers[name].append(row[name])


def _drawn(item: Item, shared: Shared) -> Item:
    """The item with its artifact drawn to the shared one."""
    from stages.denoise.shared import drawn_to

    prior, ridge = shared
    raw = item["raw"].astype(np.float32)
    clean, artifact = drawn_to(
        item["clean"].astype(np.float32), item["artifact"].astype(np.float32), _terms(item), prior, ridge
    )
    return {
        "raw": item["raw"],
        "clean": clean.astype(np.float16),
        "artifact": artifact.astype(np.float16),
        "residual": np.linalg.norm(raw - clean - artifact, axis=-1).astype(np.float32),
    }
