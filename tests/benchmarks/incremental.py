"""Ten images added to 400 done ones: how many items stage `denoise` computes, and what that costs.

    python -m tests.benchmarks.incremental --json FILE [--quick] [--images 400] [--added 10]

ELPV mono cells as a folder source, with the default parameters but these: every training image is denoised; the
backbone is not trained, which its cost does not show, and stays as it was made from the first images, as a deployed one
does; `compute.executor: serial`, so that seconds are those of the work. `cost_ratio` is (CPU seconds with the added
images - fixed start) / (their share of the cold run's CPU seconds - fixed start). The fixed start is that of a stage
that has something to do, so it loads the network: it is measured with one item missing, one item off on both sides.
`cost_ratio_idle` takes the stage with nothing new instead, which loads no network.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from stages.download.config import DataConfig
from stages.download.found import SourceImage
from stages.download.sources import elpv
from stages.download.split import split_of
from tests.benchmarks.machine import machine
from tests.conftest import ROOT, change_params, make_project

FULL: dict[str, Any] = {"backbone": {"steps": 0}}
QUICK: dict[str, Any] = {"denoise": {"views": 8, "probe_images": 2}, "backbone": {"steps": 0, "image_side": 96}}
HELD_OUT = {"validation": 16, "test": 1}
"""Images beside the training images: those of stage `denoise`'s probe, and what a split must have."""


def cells() -> Iterator[Path]:
    """Files of normal ELPV cells."""
    found = elpv.find(DataConfig(categories=("mono",)), Path())
    return (one.file for one in found if isinstance(one, SourceImage) and one.is_good)


def names(split: str) -> Iterator[str]:
    """File names that fall into a split of fold 0, where each image is a group of its own."""
    return (name for i in count() if split_of(0, f"normal/{(name := f'{split}{i}.png')}", True) == split)


def start(project: Path, settings: dict[str, Any]) -> None:
    """The tests' project with the default parameters and no images."""
    make_project(project)
    shutil.copy(ROOT / "params.yaml", project / "params.yaml")
    change_params(project, {"data": {"source": "folder", "categories": ["cell"]}, "compute": {"executor": "serial"}})
    change_params(project, settings)
    change_params(project, {"denoise": {"images": 100_000}})
    for name in ("normal", "defect", "masks"):
        shutil.rmtree(project / "data/own" / name)
    (project / "data/own/normal").mkdir()


def stage(project: Path, name: str) -> dict[str, float]:
    """Run a stage: its wall and CPU seconds, and for an item stage how many it computed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "pipeline", "stage", name]
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    counts = project / f"data/logs/{name}.counts.json"
    computed = json.loads(counts.read_text())["computed"] if counts.exists() else 0
    return {"computed": computed, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2)}


def measure(project: Path, images: int, added: int, settings: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Rows by name."""
    start(project, settings)
    source, own = cells(), project / "data/own/normal"
    for split, number in (*HELD_OUT.items(), ("train", images)):
        for name, file in zip(names(split), [next(source) for _ in range(number)], strict=False):
            shutil.copy(file, own / name)
    for name in ("download", "pretrain"):
        stage(project, name)
    rows = {"cold": stage(project, "denoise")}
    new = [name for _, name in zip(range(images + added), names("train"), strict=False)][images:]
    for name in new:
        shutil.copy(next(source), own / name)
    stage(project, "download")
    rows["images added"] = stage(project, "denoise")
    rows["nothing new"] = stage(project, "denoise")
    next((project / "data/cache/items").glob("*/*.zip")).unlink()
    rows["one item missing"] = stage(project, "denoise")
    return rows


def ratio(rows: dict[str, dict[str, float]], seconds: str, fixed: str) -> float:
    """Cost of the added items over that of as many items of the cold run, beyond the `fixed` row's."""
    cold, base, more = rows["cold"], rows[fixed], rows["images added"]
    an_item = (cold[seconds] - base[seconds]) / (cold["computed"] - base["computed"])
    return round((more[seconds] - base[seconds]) / (more["computed"] - base["computed"]) / an_item, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="12 images and 2, few views, small images")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--added", type=int, default=10)
    options = parser.parse_args()
    images, added, settings = options.images, options.added, FULL
    if options.quick:
        images, added, settings = 12, 2, QUICK
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(Path(scratch) / "project", images, added, settings)
    for name, row in rows.items():
        print(f"{name:<20}", *(f"{key} {value:>8}" for key, value in row.items()))
    summary = {
        "items_added": added,
        "items_computed": rows["images added"]["computed"],
        "cost_ratio": ratio(rows, "cpu_s", "one item missing"),
        "cost_ratio_idle": ratio(rows, "cpu_s", "nothing new"),
    }
    print(*(f"{key} {value}" for key, value in summary.items()), sep="  ")
    used = {"images": images, "executor": "serial", "backbone kept": True, **settings}
    found = [{"what": name, **row, "settings": used} for name, row in rows.items()]
    options.json.write_text(
        json.dumps({"name": "incremental", "machine": machine(), "rows": found, "summary": summary}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
