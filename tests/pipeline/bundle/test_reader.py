"""Bundles that are altered, incomplete, or from another version."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.bundle.layout import INDEX
from pipeline.bundle.reader import Bundle, open_bundle
from stages.types import UserError
from tests.pipeline.bundle.helpers import edited, rewritten, sha256


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "no bundle in"),
        (lambda folder: (folder / INDEX).write_text("{"), "bundle.json cannot be read"),
        (rewritten(format=2), "has format 2, but this version of burnish reads format 1"),
        (edited(INDEX, '"format": 1', '"format": 0'), "has format 0"),
        (rewritten(thresholds={}, digest="0"), "bundle.json was altered"),
        (edited(INDEX, '"value": ', '"value": 1'), "bundle.json was altered"),
        (edited("v1/params.json", '"seed": 0', '"seed": 1'), "params.json was altered: its digest is"),
        (lambda folder: (folder / "v1/params.json").unlink(), "params.json is missing"),
        (rewritten(files={}), "does not name v1/params.json"),
    ],
)
def test_an_altered_bundle_is_refused(
    bundle: Bundle, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    spoil(folder)
    with pytest.raises(UserError, match=words) as refused:
        open_bundle(folder)
    assert "burnish bundle" in str(refused.value)


def test_parameters_of_another_version_are_named(bundle: Bundle, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    edited("v1/params.json", '"score"', '"scroe"')(folder)
    rewritten(files={**bundle.index["files"], "v1/params.json": sha256(folder / "v1/params.json")})(folder)
    with pytest.raises(UserError, match=r"unknown key 'scroe'.*another version of burnish"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_models_are_checked_as_they_are_loaded(bundle: Bundle, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    path = folder / "v1/detectors/tile/pca" / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    copy = open_bundle(folder)
    with pytest.raises(UserError, match=rf"pca/{name} was altered"):
        copy.fitted("detectors/tile/pca")
    copy.fitted("detectors/tile/ear")
    path.unlink()
    with pytest.raises(UserError, match=rf"pca/{name} is missing"):
        copy.fitted("detectors/tile/pca")
