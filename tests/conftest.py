"""What tests share: a small project of its own, with tiny images and tiny parameters."""

from __future__ import annotations

import hashlib
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny work is slower on several threads

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

TINY: dict[str, Any] = {
    "data": {"source": "folder", "categories": ["tile"], "group_pattern": r"n(\d+)"},
    "backbone": {"image_side": 96, "crop_side": 64, "crops": 8, "steps": 4, "batch": 4, "depth": 1},
    "denoise": {"images": 3, "views": 6, "nodes_per_patch": 1},
    "denoiser": {"epochs": 2},
    "context": {"image_side": 64, "surroundings": 2},
    "ear": {"token_side": 64, "channels": 8, "epochs": 2, "width": 4, "memory_size": 50, "mosaic_scales": [2, 4]},
    "intra": {
        "token_side": 64,
        "channels": 8,
        "patch_cells": 2,
        "window_side": 3,
        "epochs": 2,
        "windows_per_image": 4,
        "blocks": 2,
        "width": 16,
    },
    "knn": {"image_side": 64, "memory_size": 50},
    "subspace": {"image_side": 64},
    "padim": {"image_side": 64},
    "pca": {"image_side": 32},
    "gabor": {"image_side": 64, "grid": 8},
    "score": {"resamples": 50, "pixel_side": 32},
}
"""Changes to params.yaml that make every stage small."""
NORMALS = (0, 1, 2, 3, 4, 18)
"""Normal images whose groups fall, in fold 0, into train (0, 1, 2, 4), validation (18) and test (3)."""


def tiny_images(folder: Path) -> None:
    """Eight images: six normal ones, and two with a bright spot, one of them with a mask."""
    for number in NORMALS:
        _picture(folder / "normal" / f"n{number}.png", number)
    for number in (0, 1):
        _picture(folder / "defect" / "spot" / f"bad{number}.png", 50 + number, spot=True)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:18, 20:28] = 255
    path = folder / "masks" / "spot" / "bad0.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(mask).save(path)


def _picture(path: Path, seed: int, spot: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 12, (40, 40))
    stripes = 120 + 40 * np.sin(np.arange(40) / 3)[None, :] + noise
    if spot:
        stripes[10:18, 20:28] += 90
    Image.fromarray(np.clip(stripes, 0, 255).astype(np.uint8)).save(path)


def change_params(project: Path, changes: Mapping[str, Mapping[str, Any] | Any]) -> None:
    """Set keys of a project's params.yaml."""
    path = project / "params.yaml"
    content = yaml.safe_load(path.read_text())
    for section, values in changes.items():
        if isinstance(values, Mapping):
            content[section].update(values)
        else:
            content[section] = values
    path.write_text(yaml.safe_dump(content))


def make_project(folder: Path, *, tiny: bool = True) -> Path:
    """A git and DVC project in `folder` with this repository's code; with `tiny`, eight images and tiny parameters."""
    folder.mkdir(parents=True)
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    (folder / "data" / "own").mkdir(parents=True)
    if tiny:
        tiny_images(folder / "data" / "own")
        change_params(folder, TINY)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "start"], cwd=folder, check=True)
    return folder


OUTPUTS = (
    "raw",
    "backbone",
    "features",
    "denoised",
    "models",
    "audit",
    "probe",
    "inputs",
    "maps",
    "predictions",
    "plots",
    "metrics",
    "report/body.html",
    "warnings",
)


def digests(project: Path) -> dict[str, str]:
    """sha256 of every output file; folders under a temporary name are not outputs."""
    found = {}
    for name in OUTPUTS:
        place = project / "data" / name
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.is_file() and not any(part.endswith(".part") for part in path.parts):
                found[str(path.relative_to(project))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in a real browser is a long one. Files with long tests come first, so that none runs alone at the end."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.long)
    long_files = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long_files)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Environment of subprocesses: this interpreter's commands first, one thread each."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fresh small project."""
    return make_project(tmp_path / "project")


Command = Callable[..., subprocess.CompletedProcess[str]]
