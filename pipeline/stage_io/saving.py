"""Outputs that are complete or absent, and fitted models as files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stages.types import Fitted


@contextmanager
def output(path: Path) -> Iterator[Path]:
    """A folder to write to. It becomes `path` if the block ends without an error, and is deleted otherwise."""
    temporary = path.with_name(f".{path.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that git can show line by line. NaN is refused, since DVC shows it as a number."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text)
    temporary.replace(path)


def save_fitted(folder: Path, fitted: Fitted) -> None:
    """Write `model.safetensors` and `model.json` in `folder`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.ascontiguousarray(value) for name, value in fitted.arrays.items()}, folder / "model.safetensors"
    )
    write_json(folder / "model.json", {"info": dict(fitted.info), "metrics": dict(fitted.metrics)})


def load_fitted(folder: Path) -> tuple[Fitted, str]:
    """The model that `save_fitted` wrote, and the digest of both files."""
    from safetensors.numpy import load

    weights, text = (folder / "model.safetensors").read_bytes(), (folder / "model.json").read_bytes()
    content = json.loads(text)
    digest = hashlib.sha256(weights + b"\0" + json.dumps(content["info"], sort_keys=True).encode()).hexdigest()
    return Fitted(arrays=load(weights), info=content["info"], metrics=content["metrics"]), digest
