"""The files of a side that git tracks: parameters, dvc.lock and metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from pipeline.compare import commits
from pipeline.compare.sides import Problem
from pipeline.project import paths
from stages.types import UserError


def read_tracked(root: Path, commit: str | None, path: Path) -> bytes | None:
    """A file of a commit, or with None of the workspace; None if it cannot be read."""
    if commit is not None:
        return commits.read_file(root, commit, PurePosixPath(path))
    try:
        return (root / path).read_bytes()
    except OSError:
        return None


def missing_pipeline(root: Path, commit: str | None, lock: Mapping[str, Any]) -> Problem | None:
    """Why a commit cannot have outputs of DVC; None if it can, and for the workspace."""
    if commit is None:
        return None
    for path, meaning in (("dvc.yaml", "the pipeline is missing"), (".dvc/config", "it is not a DVC project")):
        if commits.read_file(root, commit, PurePosixPath(path)) is None:
            return Problem(f"the commit has no {path}: {meaning}")
    if not lock.get("stages"):
        return Problem("the commit has no dvc.lock: the pipeline was not run before committing")
    return None


def parse_yaml(data: bytes | None, what: str) -> dict[str, Any]:
    """The mapping in a YAML file; empty if the file is missing or holds something else.

    Raises:
        UserError: it is not valid YAML; the message names `what`.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one, because dvc.lock is long
    try:
        content = yaml.load(data or b"", Loader=loader)  # noqa: S506  both are safe
    except yaml.YAMLError as error:
        raise UserError(f"{what} is not valid YAML: {' '.join(str(error).split())}") from error
    return content if isinstance(content, dict) else {}


def parse_json(data: bytes | None) -> dict[str, Any]:
    """The object in a JSON file; empty if the file is missing or holds something else."""
    try:
        content = json.loads(data or b"{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def parse_metrics(data: bytes | None) -> dict[str, dict[str, dict[str, Any]]] | Problem:
    """Those entries of metrics.json that have the layout category -> detector -> metric -> value."""
    if data is None:
        return Problem(f"there is no {paths.METRICS}")
    metrics = {}
    for category, detectors in parse_json(data).items():
        if not isinstance(detectors, dict):
            continue
        figures = {name: values for name, values in detectors.items() if isinstance(values, dict)}
        if figures:
            metrics[category] = figures
    if not metrics:
        return Problem(f"{paths.METRICS} holds no metrics by category and detector: it is empty or of another layout")
    return metrics


def dotted_keys(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as one mapping with keys such as `knn.k`; lists are kept whole."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= dotted_keys(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat
