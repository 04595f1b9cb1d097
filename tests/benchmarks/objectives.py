"""The pretraining objectives at equal budget: what nearest neighbours tell of ELPV's defects on their features.

    python -m tests.benchmarks.objectives --json FILE [--quick] [--model plain] [--seconds 100] [--folds 0 1 2 3 4]

For each objective and fold the pipeline itself, up to the stage `probe`, with the backbone trained on that fold's
images; `random` is the network as drawn. Budget: CPU seconds of one thread for drawing crops and training; the steps
that fit come from the cost of two short trainings. Committed code, in clones; one thread a process. FILE is written
after every run, and runs that it holds already are not done again. `--quick`: the tests' tiny project, one objective.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

from stages.backbone.config import BackboneConfig
from tests.benchmarks.machine import machine
from tests.conftest import ROOT, change_params, make_project

OBJECTIVES: tuple[str, ...] = get_args(BackboneConfig.model_fields["objective"].annotation)
FOLDS = (0, 1, 2, 3, 4)
SHORT, LONGER = 4, 12
"""Steps of the two trainings that tell a step's cost."""

COST = """
import json, sys, time
from pipeline.params import load_params
from pipeline.stage_io.rows import ImageFiles, read_manifest, rows_of
from stages.backbone.build import build
from stages.training import Session

config, seconds = load_params().backbone, []
images = [ImageFiles.of(m, rows_of(m, None, part), config.image_side)
          for m in [read_manifest()] for part in ("train", "validation")]
for steps in map(int, sys.argv[1:]):
    start = time.process_time()
    build(config.model_copy(update={"steps": steps}), *images, 0, Session())
    seconds.append(time.process_time() - start)
print(json.dumps(seconds))
"""


def call(project: Path, *arguments: str) -> str:
    """Output of a Python command in the project, in one thread."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def steps_for(project: Path, seconds: float) -> dict[str, float]:
    """Steps that fit into the budget, and what they are computed from."""
    short, longer = json.loads(call(project, "-c", COST, str(SHORT), str(LONGER)).splitlines()[-1])
    step = max((longer - short) / (LONGER - SHORT), 1e-3)
    before = max(short - SHORT * step, 0.0)
    steps = max(1, int((seconds - before) / step))
    return {"steps": steps, "step_cpu_s": round(step, 4), "before_cpu_s": round(before, 2)}


def measure(project: Path, budget: dict[str, float] | None) -> dict[str, Any]:
    """What the stage `probe` finds of the parameters as they stand."""
    start = time.perf_counter()
    call(project, "-m", "dvc", "repro", "--quiet", "probe")
    found = json.loads((project / "data/probe/probe.json").read_text())
    (nearest,), (labelled,) = found["nearest_neighbour"].values(), found["labelled"].values()
    return {
        **(budget or {"steps": 0}),
        "wall_s": round(time.perf_counter() - start, 1),
        **{f"nearest_{kind}": None if nearest is None else nearest[kind]["value"] for kind in ("raw", "clean")},
        "linear_raw": labelled["linear"]["image_auroc"],
        "leakage": found["positional_leakage"],
    }


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line an objective: mean, least and most over its folds, and the mean lead over `random` on the same folds."""
    chance = {row["fold"]: row["nearest_clean"] for row in rows if row["objective"] == "random"}
    lines = []
    for name in ("random", *OBJECTIVES):
        own = [row for row in rows if row["objective"] == name and row["nearest_clean"] is not None]
        if not own:
            continue
        clean = [row["nearest_clean"] for row in own]
        leads = [row["nearest_clean"] - chance[row["fold"]] for row in own if chance.get(row["fold"]) is not None]
        lines.append(
            {
                "objective": name,
                "folds": len(own),
                "steps": own[0]["steps"],
                "nearest_raw": round(float(np.mean([row["nearest_raw"] for row in own])), 4),
                "nearest_clean": round(float(np.mean(clean)), 4),
                "least": round(min(clean), 4),
                "most": round(max(clean), 4),
                "lead": [round(float(f(leads)), 4) for f in (np.mean, np.min, np.max)] if leads else None,
            }
        )
    return lines


def show(lines: list[dict[str, Any]]) -> None:
    print("| objective | steps | raw | clean [least, most] | lead over random [least, most] | folds |")
    print("| --- | ---: | ---: | --- | --- | ---: |")
    for one in lines:
        lead = "" if one["lead"] is None else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*one["lead"])
        print(
            f"| `{one['objective']}` | {one['steps']} | {one['nearest_raw']:.3f} | {one['nearest_clean']:.3f} "
            f"[{one['least']:.3f}, {one['most']:.3f}] | {lead} | {one['folds']} |",
            flush=True,
        )


def run(file: Path, project: Path, model: str, seconds: float, folds: list[int], objectives: list[str]) -> None:
    """Do what `file` lacks, and write it there."""
    content = json.loads(file.read_text()) if file.exists() else {"rows": []}
    rows: list[dict[str, Any]] = content["rows"]
    budgets = {
        row["objective"]: {key: row[key] for key in ("steps", "step_cpu_s", "before_cpu_s") if key in row}
        for row in rows
    }
    for fold in folds:
        for name in objectives:
            if any((row["objective"], row["fold"]) == (name, fold) for row in rows):
                continue
            changes = {} if name == "random" else {"objective": name}
            change_params(project, {"data": {"fold": fold}, "backbone": {"model": model, "steps": 0, **changes}})
            if name != "random":
                call(project, "-m", "dvc", "repro", "--quiet", "download")
                budgets[name] = budgets.get(name) or steps_for(project, seconds)
                change_params(project, {"backbone": {"steps": budgets[name]["steps"]}})
            row = {"objective": name, "fold": fold, "model": model, **measure(project, budgets.get(name))}
            rows.append(row)
            lines = summarised(rows)
            summary = {one["objective"]: one["nearest_clean"] for one in lines}
            result = {"name": "objectives", "machine": machine(), "rows": rows, "summary": summary}
            file.write_text(json.dumps(result, indent=2) + "\n")
            show(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--model", choices=("plain", "hybrid"), default="plain")
    parser.add_argument("--seconds", type=float, default=100.0, help="CPU seconds of one thread for each training")
    parser.add_argument("--folds", nargs="*", type=int, default=list(FOLDS))
    parser.add_argument("--only", nargs="*", help="objectives, and `random`")
    parser.add_argument("--keep", type=Path, help="clone to this folder and leave it there, instead of a temporary one")
    options = parser.parse_args()
    chosen = options.only or ["random", *OBJECTIVES]
    with tempfile.TemporaryDirectory() as scratch:
        project = options.keep or Path(scratch) / "project"
        if options.quick:
            make_project(project)
            change_params(project, {"backbone": {"batch": 2, "dino": {"local_side": 32}, "sdssl": {"first_block": 1}}})
            change_params(project, {"backbone": {"depth": 2}})
            run(options.json, project, options.model, 0.1, [0], ["dino"])
            return
        if not project.exists():
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
        run(options.json, project, options.model, options.seconds, options.folds, chosen)


if __name__ == "__main__":
    main()
