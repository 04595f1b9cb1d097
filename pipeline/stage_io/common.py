"""What the stages' wiring shares: the manifest, images as rows, saved models, whole-or-nothing outputs, progress."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline import paths
from pipeline.params import ComputeConfig
from stages.download.images import decode, to_square
from stages.item_cache import Counts, ItemCache
from stages.types import Fitted, UserError


def read_manifest() -> pd.DataFrame:
    """One row an image, in manifest order."""
    return pd.read_parquet(paths.MANIFEST)


def rows_of(manifest: pd.DataFrame, category: str | None, *splits: str, label: int | None = None) -> NDArray[np.int64]:
    """Positions in the manifest of a category's images in the given splits."""
    chosen = manifest["split"].isin(splits)
    if category is not None:
        chosen &= manifest["category"] == category
    if label is not None:
        chosen &= manifest["label"] == label
    return np.flatnonzero(chosen.to_numpy())


@dataclass(frozen=True)
class ImageFiles:
    """Image files as `Rows` of (side, side, 3) uint8, decoded when asked for."""

    files: Sequence[Path]
    side: int

    @classmethod
    def of(cls, manifest: pd.DataFrame, rows: NDArray[np.int64], side: int) -> ImageFiles:
        return cls([paths.RAW / path for path in manifest["path"].to_numpy()[rows]], side)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), self.side, self.side, 3)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        chosen = np.arange(len(self.files))[key]
        if chosen.ndim == 0:
            return to_square(decode(self.files[int(chosen)].read_bytes()), self.side)
        out = np.empty((len(chosen), self.side, self.side, 3), np.uint8)
        for place, i in enumerate(chosen):
            out[place] = self[int(i)]
        return out


@contextmanager
def output(path: Path) -> Iterator[Path]:
    """A folder to write to that becomes `path` when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that git can show line by line; NaN is refused, since DVC shows it as a number."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)


def save_fitted(folder: Path, fitted: Fitted) -> None:
    """`model.safetensors` and `model.json` in `folder`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in fitted.arrays.items()}, folder / "model.safetensors"
    )
    write_json(folder / "model.json", {"info": dict(fitted.info), "metrics": dict(fitted.metrics)})


def load_fitted(folder: Path) -> tuple[Fitted, str]:
    """What `save_fitted` wrote, and the digest of both files."""
    from safetensors.numpy import load

    weights, text = (folder / "model.safetensors").read_bytes(), (folder / "model.json").read_bytes()
    content = json.loads(text)
    digest = hashlib.sha256(weights + b"\0" + json.dumps(content["info"], sort_keys=True).encode()).hexdigest()
    return Fitted(arrays=load(weights), info=content["info"], metrics=content["metrics"]), digest


def open_cache(compute: ComputeConfig) -> ItemCache:
    """The item cache of this project."""
    return ItemCache(compute.cache, max_bytes=int(compute.cache_max_gb * 2**30))


def bar(stage: str, count: int, unit: str = "images") -> tuple[tqdm, Callable[[int], None]]:
    """A progress bar and the function that sets how many are done."""
    shown = tqdm(total=count, desc=stage, unit=f" {unit}", mininterval=0.5, ncols=90)

    def at(done: int) -> None:
        shown.update(done - shown.n)

    return shown, at


def report_counts(stage: str, counts: Counts, cache: ItemCache) -> None:
    """Say how many items were computed, keep the counts in data/logs, and hold the cache under its cap."""
    cache.evict()
    print(
        f"{stage}: {counts.cached + counts.computed} items, {counts.cached} from the cache, {counts.computed} computed"
    )
    write_json(paths.LOGS / f"{stage}.counts.json", {"cached": counts.cached, "computed": counts.computed})


def digest_of(*values: Any) -> str:
    """sha256 (hex) of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextmanager
def training(stage: str, curves: Path, device: str, key: str) -> Iterator[Any]:
    """A `Session` whose checkpoint survives a kill, and whose curves DVCLive writes below `curves`.

    The checkpoint belongs to `key`, a digest of all that the training depends on; it goes when the block ends well.
    """
    from dvclive.live import Live

    import stages.torch_setup  # noqa: F401
    from stages.training import Session

    folder = paths.CHECKPOINTS / stage
    for stale in folder.parent.glob(f"{folder.name}/*"):
        if stale.name != key[:16]:
            shutil.rmtree(stale)
    live = Live(
        dir=str(curves), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False, cache_images=False
    )

    def on_epoch(epoch: int, values: Mapping[str, float]) -> None:
        live.step = epoch
        for name, value in values.items():
            live.log_metric(name, value)
        live.make_summary()
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"\n{stage}: epoch {epoch + 1}  {shown}", flush=True)

    yield Session(checkpoint=folder / key[:16], on_epoch=on_epoch, device=device, progress=True)
    live.end()
    shutil.rmtree(folder, ignore_errors=True)


def need(path: Path, stage: str) -> Path:
    """`path`, or an error that says which stage makes it."""
    if not path.exists():
        raise UserError(f"{path} is missing; run `burnish run {stage}` first")
    return path
