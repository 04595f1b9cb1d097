"""Retraining with nothing new, and with ten new images among 400: what each costs beside a cold run.

    python -m tests.benchmarks.retrain --json FILE [--quick] [--images 400] [--added 10]

ELPV mono cells as a folder source, 100 defects, default parameters, `frozen: true` under `pretrain` once the cold run
has made the backbone. `cost_ratio` is (seconds of the retraining - seconds of its training stages) / seconds of the
cold run: what is left of a cold run where only new images are computed. All commands are timed whole, with a Prefect
server of their own.

`--quick`: the tests' toy of two quick stages.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from pipeline.project.paths import LOGS, RETRAIN, WORKTREE
from stages.download.config import DataConfig
from stages.download.found import SourceImage
from stages.download.sources import elpv
from tests.benchmarks.machine import machine
from tests.conftest import ROOT, change_params, make_project
from tests.pipeline.retrain.toy import make_toy, picture

DEFECTS = 100
TRAINING = ("train-", "train_denoiser")
"""Beginnings of the names of stages that train."""
WHO = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def cells(project: Path, images: int, added: int) -> list[Path]:
    """Lay out the project's images; those that are to arrive later come back."""
    found = [one for one in elpv.find(DataConfig(categories=("mono",)), Path()) if isinstance(one, SourceImage)]
    shutil.rmtree(project / "data/own/normal")
    shutil.rmtree(project / "data/own/defect")
    shutil.rmtree(project / "data/own/masks")
    normals = [one.file for one in found if one.is_good]
    for folder, files in (
        ("normal", normals[:images]),
        ("defect/cell", [one.file for one in islice((one for one in found if not one.is_good), DEFECTS)]),
    ):
        (project / "data/own" / folder).mkdir(parents=True)
        for file in files:
            shutil.copy(file, project / "data/own" / folder)
    return normals[images : images + added]


def timed(project: Path, *arguments: str) -> float:
    """Wall seconds of a command of ours."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    start = time.perf_counter()
    command = [sys.executable, "-m", "pipeline", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.perf_counter() - start


def stage_seconds(root: Path, since: float) -> dict[str, float]:
    """Of each stage that has ended since."""
    files = [file for file in (root / LOGS).glob("*.time.json") if file.stat().st_mtime > since]
    return {file.name.removesuffix(".time.json"): json.loads(file.read_text())["seconds"] for file in files}


def freeze_backbone(project: Path) -> None:
    path = project / "dvc.yaml"
    content = yaml.safe_load(path.read_text())
    if "pretrain" in content["stages"]:  # the toy has no backbone
        content["stages"]["pretrain"]["frozen"] = True
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def commit(project: Path) -> None:
    subprocess.run(["git", "add", "dvc.yaml", "params.yaml", "dvc.lock", "data/metrics"], cwd=project, check=True)
    subprocess.run(["git", *WHO, "commit", "--quiet", "-m", "run"], cwd=project, check=True)


def measure(project: Path, arriving: list[Path]) -> list[dict[str, Any]]:
    """A row a command."""
    rows: list[dict[str, Any]] = [{"what": "cold run", "seconds": timed(project, "run")}]
    freeze_backbone(project)
    commit(project)
    rows.append({"what": "first champion", "seconds": timed(project, "retrain", "--once")})
    rows.append({"what": "nothing new", "seconds": timed(project, "retrain", "--once")})
    inbox = project / "data/inbox/normal"
    inbox.mkdir(parents=True)
    for file in arriving:
        shutil.copy(file, inbox)
    since = time.time()
    rows.append({"what": f"{len(arriving)} new", "seconds": timed(project, "retrain", "--once")})
    rows[-1]["stages"] = stage_seconds(project / WORKTREE, since)
    rows[-1]["result"] = json.loads((project / RETRAIN / "history.jsonl").read_text().splitlines()[-1])["result"]
    counts = project / WORKTREE / LOGS / "features.counts.json"
    rows[-1]["images_computed"] = json.loads(counts.read_text())["computed"] if counts.is_file() else None
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--added", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch) / "project"
        if options.quick:
            make_toy(project, ROOT)
            arriving = [picture(Path(scratch) / f"new{number}.png", 100, 9000 + number) for number in range(2)]
        else:
            make_project(project)
            shutil.copy(ROOT / "params.yaml", project / "params.yaml")
            change_params(project, {"data": {"source": "folder", "categories": ["cell"]}})
            arriving = cells(project, options.images, options.added)
        rows = measure(project, arriving)
    for row in rows:
        print(f"{row['what']:<16}{row['seconds']:8.1f} s")
    seconds = {row["what"]: row["seconds"] for row in rows}
    last = rows[-1]
    training = sum(value for name, value in last["stages"].items() if name.startswith(TRAINING))
    summary = {
        "nothing_new_s": round(seconds["nothing new"], 2),
        "new_s": round(last["seconds"], 1),
        "training_s": round(training, 1),
        "cold_s": round(seconds["cold run"], 1),
        "cost_ratio": round((last["seconds"] - training) / seconds["cold run"], 3),
    }
    print(json.dumps(summary, indent=2))
    result = {"name": "retrain", "machine": machine(), "rows": rows, "summary": summary}
    options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
