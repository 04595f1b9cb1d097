from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.bundle.writer import make_bundle
from pipeline.project.params import load_params


@pytest.fixture(scope="session")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a bundle and a folder `new`: two good images, a defective one, a damaged one, and a text file."""
    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("judging") / "project", symlinks=True))
    make_bundle(load_params(root / "params.yaml"), root)
    new = root / "new"
    (new / "inner").mkdir(parents=True)
    for name, source in (
        ("a.png", "normal/n3.png"),
        ("inner/b.png", "normal/n0.png"),
        ("c.png", "defect/spot/bad0.png"),
    ):
        shutil.copy(root / "data/own" / source, new / name)
    (new / "broken.png").write_bytes((new / "a.png").read_bytes()[:200])
    (new / "words.txt").write_text("no image")
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as the working directory."""
    monkeypatch.chdir(project)
    return project
