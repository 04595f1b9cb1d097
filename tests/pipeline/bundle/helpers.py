"""What the tests of the bundle share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.bundle.layout import INDEX, digest_of
from pipeline.project.params import Params, load_params


def params_of(project: Path) -> Params:
    return load_params(project / "params.yaml")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rewritten(**changes: Any) -> Callable[[Path], None]:
    """Change bundle.json and its digest; with `digest` among the changes, that digest is written."""

    def change(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        index.pop("digest")
        index |= changes
        index.setdefault("digest", digest_of(index))
        (folder / INDEX).write_text(json.dumps(index))

    return change


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change
