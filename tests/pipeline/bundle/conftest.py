from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.bundle.reader import Bundle, open_bundle
from pipeline.bundle.writer import make_bundle
from tests.pipeline.bundle.helpers import params_of


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "project", symlinks=True))


@pytest.fixture(scope="module")
def bundle(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    assert make_bundle(params_of(finished), finished, folder) == folder
    return open_bundle(folder)
