"""Trees of tiny images in the layouts of their publishers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.download.config import DataConfig
from stages.download.found import Found, Rejected
from stages.download.sources.registry import SOURCES

Tree = Callable[[Iterable[str]], Path]
Find = Callable[..., tuple[dict[str, Found], list[Rejected]]]


def write_image(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes an image for each path, below the folder that it returns."""

    def write(paths: Iterable[str]) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for path in paths:
            write_image(root / path)
        return root

    return write


def find_images(source: str, root: Path, *categories: str, **changes: Any) -> tuple[dict[str, Found], list[Rejected]]:
    """What the source says of the root: images by `category:name`, and what is rejected."""
    config = DataConfig.model_validate({"source": source, "categories": categories or ("part",), **changes})
    found: dict[str, Found] = {}
    rejected: list[Rejected] = []
    for one in SOURCES[source](config, root):
        if isinstance(one, Rejected):
            rejected.append(one)
        else:
            assert f"{one.category}:{one.name}" not in found
            found[f"{one.category}:{one.name}"] = one
            assert one.file.is_file()
            assert all(mask.is_file() for mask in one.masks)
    return found, rejected


@pytest.fixture
def find() -> Find:
    return find_images


def masks(one: Found, root: Path) -> list[str]:
    return [mask.relative_to(root).as_posix() for mask in one.masks]


def splits(found: dict[str, Found]) -> dict[str, str]:
    return {name: one.split for name, one in found.items()}


def kinds(found: dict[str, Found]) -> dict[str, str]:
    return {name: one.defect_type for name, one in found.items() if not one.normal}
