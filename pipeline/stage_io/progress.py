"""The item cache and the progress bar of a stage. They affect when something is computed, never the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tqdm import tqdm

from pipeline.project import paths
from pipeline.project.params import ComputeConfig
from pipeline.stage_io.saving import write_json

if TYPE_CHECKING:
    from stages.item_cache import Counts, ItemCache


def open_cache(compute: ComputeConfig) -> ItemCache:
    """The item cache of this project."""
    from stages.item_cache import ItemCache  # loads zarr, which a progress bar has no need of

    return ItemCache(compute.cache, max_bytes=int(compute.cache_max_gb * 2**30))


def progress_bar(stage: str, count: int, unit: str = "images") -> tuple[tqdm, Callable[[int], None]]:
    """A progress bar, and a function that sets the number of images done."""
    bar = tqdm(total=count, desc=stage, unit=f" {unit}", mininterval=0.5, ncols=90)

    def set_done(done: int) -> None:
        bar.update(done - bar.n)

    return bar, set_done


def report_counts(stage: str, counts: Counts, cache: ItemCache) -> None:
    """Print how many items were computed, save the counts in data/logs, and keep the cache below its size limit."""
    cache.evict()
    print(
        f"{stage}: {counts.cached + counts.computed} items, {counts.cached} from the cache, {counts.computed} computed"
    )
    write_json(paths.LOGS / f"{stage}.counts.json", {"cached": counts.cached, "computed": counts.computed})
