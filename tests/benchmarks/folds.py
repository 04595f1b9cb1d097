"""The whole pipeline on the five folds of each data set: image AUROC of every detector, how far above that of PaDiM in
the same fold, and what each adds to `fused`.

    python -m tests.benchmarks.folds --json FILE [--quick] [--tiles FOLDER] [--only elpv tiles] [--folds 0 1 2 3 4]

Committed code with its default parameters, in a clone; one thread a process, so that the figures do not depend on the
number of cores. FILE is written after every fold, and folds that it holds already are not run again. Intervals: the
mean of the folds' own (95 %, bootstrap over test images). The folds share all defects and some good images, so the mean
of five is not five times as sure as one; that of fully dependent folds would have this interval, any other a smaller.

`--tiles`: the folder that holds MT_Free and the defect folders. `--quick`: the tests' tiny project, one fold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from stages.detectors.registry import FLOORS
from tests.benchmarks.machine import machine
from tests.conftest import ROOT, change_params, make_project

FOLDS = (0, 1, 2, 3, 4)


def data_sets(tiles: Path | None) -> dict[str, dict[str, Any]]:
    """Section `data` of each."""
    found: dict[str, dict[str, Any]] = {"elpv": {"source": "elpv", "categories": ["mono", "poly"]}}
    if tiles is not None:
        found["tiles"] = {"source": "magnetic_tile", "folder": str(tiles.resolve()), "categories": ["tile"]}
    return found


def run(project: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """metrics.json and details.json of a run with these parameters."""
    change_params(project, {"data": changes})
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pipeline", "run", "--jobs", "2"]
    subprocess.run(command, cwd=project, env=environment, check=True)
    files = {name: project / f"data/metrics/{name}.json" for name in ("metrics", "details")}
    return {name: json.loads(file.read_text()) for name, file in files.items()}


Found = dict[tuple[str, str], list[tuple[float, list[float] | None]]]
"""Value and ends of its interval, where it has one, in each fold, by category and detector."""


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a category and detector, the best first."""
    reached: Found = {}
    added: Found = {}
    above: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for category, detectors in row["metrics"].items():
            floor = detectors.get("padim", {}).get("image_auroc")
            for name, values in detectors.items():
                if values["image_auroc"] is not None:
                    reached.setdefault((category, name), []).append((values["image_auroc"], values["image_auroc_ci"]))
                    if floor is not None and name != "padim":
                        above.setdefault((category, name), []).append(values["image_auroc"] - floor)
            fused = row["details"][category].get("fused", {})  # a run of one detector has no fusion
            for name, values in fused.get("added_by", {}).items():
                added.setdefault((category, name), []).append((values["image_auroc"], values["ci"]))
    lines = []
    for (category, name), folds in reached.items():
        own = [value for value, _ in folds]
        line = {"category": category, "detector": name, **_mean(folds), **_spread(own), "folds": len(own)}
        beyond = above.get((category, name), [])
        line["above_padim"] = {"mean": round(float(np.mean(beyond)), 4), **_spread(beyond)} if beyond else {}
        lines.append(line | {"added": _mean(added.get((category, name), []))})
    return sorted(lines, key=lambda one: (one["category"], -one["mean"]))


def _mean(folds: list[tuple[float, list[float] | None]]) -> dict[str, Any]:
    """Of the values, and of each end of their intervals."""
    if not folds:
        return {}
    ends = [interval for _, interval in folds if interval is not None]
    mean = round(float(np.mean([value for value, _ in folds])), 4)
    whole = len(ends) == len(folds)
    return {"mean": mean, "interval": [round(float(end), 4) for end in np.mean(ends, axis=0)] if whole else None}


def _spread(values: list[float]) -> dict[str, float]:
    return {"least": round(min(values), 4), "most": round(max(values), 4)}


def show(lines: list[dict[str, Any]]) -> None:
    print("| category | detector | AUROC, mean | interval | least to most | less PaDiM's | adds to `fused` | folds |")
    print("| --- | --- | ---: | --- | --- | --- | --- | ---: |")
    for one in lines:
        name = f"*{one['detector']} floor*" if one["detector"] in FLOORS else one["detector"]
        adds = f"{one['added']['mean']:+.3f} {_ends(one['added']['interval'])}" if one["added"] else ""
        mean, spread = f"{one['mean']:.3f}", _range(one)
        above = f"{one['above_padim']['mean']:+.3f}, {_range(one['above_padim'], '+')}" if one["above_padim"] else ""
        cells = (one["category"], name, mean, _ends(one["interval"]), spread, above, adds, one["folds"])
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def _range(one: dict[str, float], sign: str = "") -> str:
    return f"{one['least']:{sign}.3f} to {one['most']:{sign}.3f}"


def _ends(interval: list[float] | None) -> str:
    return "" if interval is None else "[{:.3f}, {:.3f}]".format(*interval)


def measure(file: Path, sets: dict[str, dict[str, Any]], folds: tuple[int, ...], project: Path) -> None:
    """Run what `file` does not hold yet, and write it there."""
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=project, capture_output=True, text=True, check=True
    ).stdout.strip()
    for name, changes in sets.items():
        for fold in folds:
            if any((row["data"], row["fold"]) == (name, fold) for row in rows):
                continue
            rows.append({"data": name, "fold": fold, "commit": commit, **run(project, {**changes, "fold": fold})})
            lines = summarised(rows)
            means = {f"{one['category']} {one['detector']}": one["mean"] for one in lines}
            result = {"name": "folds", "machine": machine(), "rows": rows, "summary": means}
            file.write_text(json.dumps(result, indent=2) + "\n")
            show(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tiles", type=Path, help="folder that holds MT_Free and the defect folders")
    parser.add_argument("--only", nargs="*", help="names of data sets: elpv, tiles")
    parser.add_argument("--folds", nargs="*", type=int, default=FOLDS)
    parser.add_argument("--keep", type=Path, help="clone to this folder and leave it there, instead of a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        project = options.keep or Path(scratch) / "project"
        if options.quick:
            make_project(project)
            change_params(project, {"detectors": ["pca"]})
            measure(options.json, {"tiny": {}}, FOLDS[:1], project)
            return
        if not project.exists():
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
        sets = data_sets(options.tiles)
        chosen = {name: one for name, one in sets.items() if not options.only or name in options.only}
        measure(options.json, chosen, tuple(options.folds), project)


if __name__ == "__main__":
    main()
