"""The whole pipeline on the five folds of each data set: image AUROC of every detector, how far above that of PaDiM in
the same fold, what each adds to `fused`, and every fold's threshold with its overkill and escape.

    python -m tests.benchmarks.folds --json FILE [--quick] [--tiles FOLDER] [--only elpv tiles] [--folds 0 1 2 3 4]

Committed code with its default parameters, in a clone; one thread a process, so that the figures do not depend on the
number of cores. FILE is written after every fold, and folds that it holds are not run again; folds of one data set are
of one commit. The README's tables are of tests/benchmarks/folds.json. Intervals: the mean of the folds' own (95 %,
bootstrap over test images). The folds share all defects and some good images, so the mean of five is not five times as
sure as one; that of fully dependent folds would have this interval, any other a smaller.

`--tiles`: the folder that holds MT_Free and the defect folders. `--quick`: the tests' tiny project, one fold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.show.tables import BASELINE_MARK
from stages.detectors.registry import BASELINES
from tests.benchmarks.machine import machine
from tests.conftest import ROOT, change_params, make_project

FOLDS = (0, 1, 2, 3, 4)
HEADINGS = {"mono": "ELPV mono", "poly": "ELPV poly", "tile": "magnetic tiles"}


def data_sets(tiles: Path | None) -> dict[str, dict[str, Any]]:
    """Section `data` of each."""
    found: dict[str, dict[str, Any]] = {"elpv": {"source": "elpv", "categories": ["mono", "poly"]}}
    if tiles is not None:
        found["tiles"] = {"source": "magnetic_tile", "folder": str(tiles.resolve()), "categories": ["tile"]}
    return found


def run(project: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Of a run with these parameters, by category: image AUROC of every detector, what each member adds to `fused`,
    threshold, overkill and escape."""
    change_params(project, {"data": changes})
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pipeline", "run", "--jobs", "2"]
    subprocess.run(command, cwd=project, env=environment, check=True)
    metrics, details = (
        json.loads((project / f"data/metrics/{name}.json").read_text()) for name in ("metrics", "details")
    )
    reached = {
        category: {name: {"value": one["image_auroc"], "ci": one["image_auroc_ci"]} for name, one in detectors.items()}
        for category, detectors in metrics.items()
    }
    added = {
        # a run of one detector has no fusion
        category: {
            name: {"value": one["image_auroc"], "ci": one["ci"]}
            for name, one in of.get("fused", {}).get("added_by", {}).items()
        }
        for category, of in details.items()
    }
    deployed = {
        category: {
            name: {key: one[key] for key in ("threshold", "overkill_rate", "escape_rate")}
            for name, one in detectors.items()
        }
        for category, detectors in metrics.items()
    }
    return {"image_auroc": reached, "added_by": added, "deployed": deployed}


Found = dict[tuple[str, str], list[dict[str, Any]]]
"""`value` and `ci`, the ends of its interval or None, in each fold, by category and detector."""


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per category and detector, baselines last: image AUROC, how far above PaDiM's, what it adds to `fused`."""
    reached: Found = {}
    above: Found = {}
    added: Found = {}
    deployed: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        for category, detectors in row.get("deployed", {}).items():  # earlier rows have none
            for name, one in detectors.items():
                deployed.setdefault((category, name), []).append(one)
        for category, detectors in row["image_auroc"].items():
            padim = detectors.get("padim", {}).get("value")
            for name, one in detectors.items():
                if one["value"] is not None:
                    reached.setdefault((category, name), []).append(one)
                    if padim is not None and name not in BASELINES:
                        above.setdefault((category, name), []).append({"value": one["value"] - padim, "ci": None})
        for category, members in row["added_by"].items():
            for name, one in members.items():
                added.setdefault((category, name), []).append(one)
    return [
        {
            "category": key[0],
            "detector": key[1],
            "image_auroc": _over(folds),
            "above_padim": _over(above.get(key, [])),
            "added": _over(added.get(key, [])),
            "deployed": deployed.get(key, []),
        }
        for key, folds in sorted(reached.items(), key=lambda one: (one[0][1] in BASELINES, one[0][1]))
    ]


def _over(folds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the values: mean, least, most; `ci`: mean of each end of their intervals."""
    if not folds:
        return {}
    values, ends = [one["value"] for one in folds], [one["ci"] for one in folds]
    ci = [round(float(end), 4) for end in np.mean(ends, axis=0)] if None not in ends else None
    mean, least, most = (round(float(one), 4) for one in (np.mean(values), min(values), max(values)))
    return {"mean": mean, "ci": ci, "least": least, "most": most, "folds": len(folds)}


def tables(lines: list[dict[str, Any]]) -> str:
    """Tables in Markdown, a column a category; that of thresholds only where the rows have them."""
    parts = [
        _table("detector", "image_auroc", lines, lambda one: f"{_mean(one)} {_ci(one)}, {_spread(one)}"),
        _table(
            "less PaDiM, in the same fold", "above_padim", lines, lambda one: f"{_mean(one, '+')}, {_spread(one, '+')}"
        ),
        _table("adds to `fused`", "added", lines, lambda one: f"{_mean(one, '+')} {_ci(one)}"),
    ]
    if any(one["deployed"] for one in lines):
        parts.append(_table("threshold: overkill / escape, of each fold", "deployed", lines, _deployed))
    return "\n\n".join(parts)


def _deployed(folds: list[dict[str, Any]]) -> str:
    def percent(rate: float | None) -> str:
        return "–" if rate is None else f"{100 * rate:.0f}"

    return ", ".join(
        f"{one['threshold']:.4g}: {percent(one['overkill_rate'])} / {percent(one['escape_rate'])} %"
        for one in folds
        if one["threshold"] is not None
    )


def _table(heading: str, of: str, lines: list[dict[str, Any]], cell: Callable[[Any], str]) -> str:
    cells = {(one["detector"], one["category"]): cell(one[of]) for one in lines if one[of]}
    categories = list(dict.fromkeys(category for _, category in cells))
    rows = [[heading, *(HEADINGS.get(one, one) for one in categories)], ["---"] * (1 + len(categories))]
    for name in dict.fromkeys(name for name, _ in cells):
        shown = f"*{name}{BASELINE_MARK}*" if name in BASELINES else name
        rows.append([shown, *(cells.get((name, one), "") for one in categories)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _mean(one: dict[str, Any], sign: str = "") -> str:
    return f"{one['mean']:{sign}.3f}"


def _ci(one: dict[str, Any]) -> str:
    return "" if one["ci"] is None else "[{:.3f}, {:.3f}]".format(*one["ci"])


def _spread(one: dict[str, Any], sign: str = "") -> str:
    return f"{one['least']:{sign}.3f} to {one['most']:{sign}.3f}"


def measure(file: Path, sets: dict[str, dict[str, Any]], folds: tuple[int, ...], project: Path) -> None:
    """Show what `file` holds; run what it does not hold yet, and write it there."""
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    if rows:
        _show(rows)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=project, capture_output=True, text=True, check=True
    ).stdout.strip()
    if others := {row["commit"] for row in rows if row["data"] in sets} - {commit}:
        raise SystemExit(
            f"{file} holds folds of commit {', '.join(sorted(others))}, and {project} is at {commit}: check that out"
            " there, or name another file"
        )
    for name, changes in sets.items():
        for fold in folds:
            if any((row["data"], row["fold"]) == (name, fold) for row in rows):
                continue
            of = {"data": name, "fold": fold, "commit": commit, "processor": machine()["processor"]}
            rows.append(of | run(project, {**changes, "fold": fold}))
            means = {f"{one['category']} {one['detector']}": one["image_auroc"]["mean"] for one in summarised(rows)}
            result = {"name": "folds", "machine": machine(), "rows": rows, "summary": means}
            file.write_text(json.dumps(result, indent=2) + "\n")
            _show(rows)


def _show(rows: list[dict[str, Any]]) -> None:
    of = {what: ", ".join(dict.fromkeys(row[what] for row in rows)) for what in ("commit", "processor")}
    print(f"{tables(summarised(rows))}\n\n{len(rows)} folds, commit {of['commit']}, {of['processor']}", flush=True)


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
            if not project.exists():
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
