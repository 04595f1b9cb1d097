"""What tests of the data set share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.download import manifest
from stages.download.config import DataConfig
from stages.download.found import Found, Rejected
from tests.stages.download.test_manifest import picture


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Found | Rejected]:
    """What the source finds: 30 normal images, each a group, and what a test adds."""
    ones: list[Found | Rejected] = []
    for i in range(30):
        picture(tmp_path / "in" / f"{i}.png", i)
        ones.append(Found(tmp_path / "in" / f"{i}.png", f"{i}.png", "part", str(i)))

    def source(config: DataConfig, root: Path) -> Iterator[Found | Rejected]:
        yield from ones

    monkeypatch.setitem(manifest.SOURCES, "folder", source)
    return ones
