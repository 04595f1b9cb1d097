"""`burnish predict` on many images: what share of the time is the models', images a second, whether memory stays flat.
And on one: seconds from the command to the verdict, of PCA alone and of the detectors that decide by default.

    python -m tests.benchmarks.predict --json FILE [--quick] [--images 1000]

Models of the default sizes, hardly trained, which their cost does not show; drawn parts of 300 px as PNG; the default
detectors (the fusion and its members), overlays of rejected images. Each command runs in a process of its own, in one
thread. `model_time_fraction` is the CPU time inside the models over that of the whole command, imports and loading
included; reading images, which goes on beside it in threads, counts as the command's. `rss_growth_mb` is the difference
of the peaks of memory with all and with a fifth of the images.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import machine
from tests.conftest import ROOT, change_params, make_project

SHORT: dict[str, Any] = {
    "data": {
        "source": "synthetic",
        "categories": ["part"],
        "group_pattern": r"(\d+)",
        "synthetic": {"normals": 60, "defects": 4, "side": 300},
    },
    "backbone": {"steps": 0},
    "denoise": {"images": 4, "views": 6},
    "denoiser": {"epochs": 2},
    "ear": {"epochs": 1},
    "intra": {"epochs": 1},
    "score": {"resamples": 50},
    "compute": {"executor": "serial", "device": "cpu"},
}
"""Changes to the default parameters: little training, all sizes as they are."""

STAGES = """
from pathlib import Path
from pipeline.project.stage_table import MATRIX, STAGES
from pipeline.stage_io.run_stage import run as run_stage
from pipeline.bundle.writer import make_bundle
from pipeline.project.params import load_params

params = load_params()
for name in STAGES:
    each = [(category, detector) for category in params.data.categories for detector in params.detectors]
    for where in each if name in MATRIX else [()]:
        run_stage(name, *where)
make_bundle(params, Path.cwd())
"""

PREDICT = """
import json, sys, time
from pathlib import Path
start = time.process_time(), time.perf_counter()
from pipeline.judge.command import predict
from pipeline.judge.models import Models
from pipeline.judge.options import Options

inside, predict_batch = [], Models.predict

def timed(self, *arguments):
    begin = time.thread_time()
    maps = predict_batch(self, *arguments)
    inside.append(time.thread_time() - begin)
    return maps

Models.predict = timed
code = predict([sys.argv[1]], Options(bundle=Path(sys.argv[2]), out=Path(sys.argv[3])))
status = Path("/proc/self/status").read_text()  # ru_maxrss would be the parent's, which is larger
peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
cpu, wall = time.process_time() - start[0], time.perf_counter() - start[1]
print(json.dumps({"cpu_s": cpu, "wall_s": wall, "models_cpu_s": sum(inside), "peak_mb": peak}))
"""


def run(code: str, project: Path, *arguments: object) -> str:
    """A script in the project, in one thread; what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def draw_parts(folder: Path, count: int) -> None:
    """New parts; the eighth of each eight is defective."""
    from PIL import Image

    from stages.download.sources.drawing import DEFECT_TYPES, render

    folder.mkdir(parents=True)
    for number in range(count):
        defect_type = DEFECT_TYPES[number // 8 % len(DEFECT_TYPES)] if number % 8 == 7 else ""
        Image.fromarray(render(1, "part", number, 300, defect_type).image).save(folder / f"{number:06d}.png")


def measure(scratch: Path, images: int, quick: bool) -> list[dict[str, Any]]:
    """Rows: a fifth of the images, and all of them."""
    project = make_project(scratch / "project")
    if quick:
        changes = {"detectors": ["pca", "padim"], "compute": SHORT["compute"], "score": SHORT["score"]}
        change_params(project, changes)
    else:
        shutil.copy(ROOT / "params.yaml", project / "params.yaml")
        change_params(project, SHORT)
    run(STAGES, project)
    rows = []
    for what, count in (("a fifth", images // 5), ("all", images)):
        folder = scratch / f"parts{count}"
        draw_parts(folder, count)
        said = run(PREDICT, scratch, folder, project / "data/bundle", scratch / f"out{count}")
        found = json.loads(said.splitlines()[-1])
        rates = {
            "images_per_cpu_s": round(count / found["cpu_s"], 2),
            "model_time_fraction": round(found["models_cpu_s"] / found["cpu_s"], 3),
        }
        rows.append({"what": what, "images": count, **{k: round(v, 2) for k, v in found.items()}, **rates})
    image = scratch / f"parts{images}" / "000000.png"
    for what, chosen in (("one, pca", ["--detector", "pca"]), ("one, default", [])):
        command = [sys.executable, "-m", "pipeline", "predict", str(image), *chosen, "--out", str(scratch / "one")]
        times = [
            seconds([*command, "--bundle", str(project / "data/bundle")], project) for _ in range(1 if quick else 5)
        ]
        rows.append({"what": what, "images": 1, "wall_s": round(statistics.median(times), 2)})
    return rows


def seconds(command: list[str], project: Path) -> float:
    """Wall seconds of a command, in as many threads as it takes by default."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    start = time.perf_counter()
    subprocess.run(command, cwd=project, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="two tiny models, 20 images")
    parser.add_argument("--images", type=int, default=1000)
    options = parser.parse_args()
    images = 20 if options.quick else options.images
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(Path(scratch), images, options.quick)
    summary = {
        "model_time_fraction": rows[1]["model_time_fraction"],
        "rss_growth_mb": round(rows[1]["peak_mb"] - rows[0]["peak_mb"], 1),
        "images_per_s": rows[1]["images_per_cpu_s"],
        "one_image_pca_s": rows[2]["wall_s"],
        "one_image_default_s": rows[3]["wall_s"],
    }
    for row in rows:
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")
    print(*(f"{key} {value}" for key, value in summary.items()), sep="  ")
    settings = {"images": images, "sides": 300, "models": "tiny" if options.quick else "default sizes"}
    content = {"name": "predict", "machine": machine(), "rows": [{**row, "settings": settings} for row in rows]}
    options.json.write_text(json.dumps({**content, "summary": summary}, indent=2) + "\n")


if __name__ == "__main__":
    main()
