"""What surrounds a stage and leaves no trace in its outputs: the item cache, progress bars, checkpoints, curves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline import paths
from pipeline.params import ComputeConfig
from pipeline.stage_io.saving import write_json
from stages.item_cache import Counts, ItemCache


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
