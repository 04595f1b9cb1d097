"""Notes on results that may be out of date: parameters changed since the run, or files that are not from dvc.lock."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.compare.tracked_files import dotted_keys
from pipeline.project import paths

NAMED = 3
"""Changed parameters that a note names."""


def notes_on_params(params: Mapping[str, Any], lock: Mapping[str, Any]) -> list[str]:
    """A note if parameters changed after the stages ran, so that the results belong to the earlier values."""
    current = dotted_keys(params)
    used: dict[str, Any] = {}
    for stage in (lock.get("stages") or {}).values():
        used |= dotted_keys((stage.get("params") or {}).get(str(paths.PARAMS)) or {})
    # compared as text, because YAML 1.1 and 1.2 read `1e-05` differently
    changed = sorted(key for key, value in used.items() if str(current.get(key)) != str(value))
    if not changed:
        return []
    named = ", ".join(f"{key} ({used[key]}, now {current.get(key)})" for key in changed[:NAMED])
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return [
        f"parameters in {paths.PARAMS} changed since the stages ran: {named}{more}; "
        "`burnish run` brings the results up to date"
    ]


def notes_on_files(root: Path, lock: Mapping[str, Any]) -> list[str]:
    """A note if files of the workspace are not those of dvc.lock, as far as size and one digest can tell."""
    outputs = {out["path"]: out for stage in (lock.get("stages") or {}).values() for out in stage.get("outs") or ()}
    differing = []
    metrics = root / paths.METRICS
    if (out := outputs.get(str(paths.METRICS))) and metrics.is_file():
        digest = hashlib.md5(metrics.read_bytes(), usedforsecurity=False).hexdigest()
        if digest != out.get("md5"):
            differing.append(str(paths.METRICS))
    predictions = root / paths.PREDICTIONS
    if (out := outputs.get(str(paths.PREDICTIONS))) and predictions.is_dir():
        sizes = [path.stat().st_size for path in predictions.iterdir()]
        if (len(sizes), sum(sizes)) != (out.get("nfiles"), out.get("size")):
            differing.append(str(paths.PREDICTIONS))
    if not differing:
        return []
    return [f"not the outputs that dvc.lock records: {' and '.join(differing)}; run `burnish run` or `dvc checkout`"]
