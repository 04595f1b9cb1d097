"""Read a side of a comparison: from git and DVC for a commit, from the files for the workspace.

Nothing is computed or checked out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.compare import commits
from pipeline.compare.outputs import OutputUnavailable, open_outputs
from pipeline.compare.sides import WORKSPACE, Key, Problem, Side
from pipeline.compare.staleness import notes_on_files, notes_on_params
from pipeline.compare.stored_tables import read_manifest, read_predictions
from pipeline.compare.tracked_files import missing_pipeline, parse_json, parse_metrics, parse_yaml, read_tracked
from pipeline.project import paths
from stages.types import UserError


def read_side(root: Path, revision: str | None) -> Side:
    """Read everything that is known of a revision; None or `workspace`: the files in the working directory.

    Raises:
        UserError: there is no such revision, or it has neither metrics nor predictions.
    """
    name = revision or WORKSPACE
    if name == WORKSPACE:
        changed_files = tuple(commits.changed_files(root))
        side = _read(root, name, None, commits.head_commit(root), changed_files)
    else:
        commit = commits.resolve_commit(root, name)
        side = _read(root, name, commit, commit, ())
    if not side.metrics and not side.predictions:
        raise UserError(
            f"{side.title} has nothing to compare: {side.problems['metrics']}; {side.problems['predictions']}"
        )
    return side


def read_images(side: Side, names: Sequence[str]) -> dict[str, bytes]:
    """Image files of data/raw by their path; files that cannot be read are left out."""
    images = {}
    try:
        with open_outputs(side.root, None if side.is_workspace else side.commit) as outputs:
            for name in names:
                try:
                    images[name] = outputs.read(paths.RAW / name)
                except OutputUnavailable:
                    continue
    except OutputUnavailable:
        pass
    return images


def _read(root: Path, name: str, read_from: str | None, commit: str | None, changed_files: tuple[str, ...]) -> Side:
    """
    Args:
        read_from: commit to read the files from; None: the workspace.
        commit: commit to display.
    """
    lock = parse_yaml(read_tracked(root, read_from, Path("dvc.lock")), f"dvc.lock of {name}")
    params = parse_yaml(read_tracked(root, read_from, paths.PARAMS), f"{paths.PARAMS} of {name}")
    metrics = parse_metrics(read_tracked(root, read_from, paths.METRICS))
    predictions, manifest, source = _read_outputs(root, read_from, lock)
    notes = notes_on_params(params, lock)
    if source is not None:
        notes.append(f"read {source}")
    if read_from is None:
        notes += notes_on_files(root, lock)
    parts = {"metrics": metrics, "predictions": predictions, "manifest": manifest}
    return Side(
        root=root,
        name=name,
        commit=commit,
        changed_files=changed_files,
        params=params,
        metrics={} if isinstance(metrics, Problem) else metrics,
        details=parse_json(read_tracked(root, read_from, paths.DETAILS)),
        predictions={} if isinstance(predictions, Problem) else predictions,
        manifest=None if isinstance(manifest, Problem) else manifest,
        problems={part: value.reason for part, value in parts.items() if isinstance(value, Problem)},
        notes=tuple(notes),
    )


def _read_outputs(
    root: Path, read_from: str | None, lock: Mapping[str, Any]
) -> tuple[dict[Key, pd.DataFrame] | Problem, pd.DataFrame | Problem, str | None]:
    """Predictions, manifest, and where they were read from if that is worth a note."""
    problem = missing_pipeline(root, read_from, lock)
    if problem is not None:
        return problem, problem, None
    try:
        with open_outputs(root, read_from) as outputs:
            return read_predictions(outputs), read_manifest(outputs), outputs.source()
    except OutputUnavailable as error:
        problem = Problem(str(error))
        return problem, problem, None
