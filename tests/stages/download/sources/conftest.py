"""Trees of tiny images in the layouts of their publishers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from stages.download.sources.registry import SOURCES

Tree = Callable[[Iterable[str]], Path]
Find = Callable[..., tuple[dict[str, SourceImage], list[Rejected]]]


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


def find_images(
    source: str, root: Path, *categories: str, **changes: Any
) -> tuple[dict[str, SourceImage], list[Rejected]]:
    """Images that the source lists, by `category:name`, and rejected files."""
    config = DataConfig.model_validate({"source": source, "categories": categories or ("part",), **changes})
    images: dict[str, SourceImage] = {}
    rejected: list[Rejected] = []
    for image in SOURCES[source](config, root):
        if isinstance(image, Rejected):
            rejected.append(image)
        else:
            assert f"{image.category}:{image.name}" not in images
            images[f"{image.category}:{image.name}"] = image
            assert image.file.is_file()
            assert all(mask.is_file() for mask in image.masks)
    return images, rejected


@pytest.fixture
def find() -> Find:
    return find_images


def masks(image: SourceImage, root: Path) -> list[str]:
    return [mask.relative_to(root).as_posix() for mask in image.masks]


def splits(images: dict[str, SourceImage]) -> dict[str, str]:
    return {name: image.split for name, image in images.items()}


def defect_types(images: dict[str, SourceImage]) -> dict[str, str]:
    return {name: image.defect_type for name, image in images.items() if not image.is_good}
