"""Fixtures for the tests of the data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.download import manifest
from stages.download.config import DataConfig
from stages.download.found import Rejected, SourceImage
from tests.stages.download.test_manifest import picture


@pytest.fixture
def source_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[SourceImage | Rejected]:
    """What the source lists: 30 good images, each its own group, and what a test adds."""
    images: list[SourceImage | Rejected] = []
    for i in range(30):
        picture(tmp_path / "in" / f"{i}.png", i)
        images.append(SourceImage(tmp_path / "in" / f"{i}.png", f"{i}.png", "part", str(i)))

    def source(config: DataConfig, root: Path) -> Iterator[SourceImage | Rejected]:
        yield from images

    monkeypatch.setitem(manifest.SOURCES, "folder", source)
    return images
