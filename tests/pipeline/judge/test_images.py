"""Which images are meant, and what is loaded of each."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.judge.images import describe_differences, load_image, resolve_paths
from pipeline.stage_io.rows import ImageFiles
from stages.download.config import DataConfig


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["new"], ["a.png", "broken.png", "c.png", "b.png"]),
        (["new/a.png", "./new/a.png", "new/words.txt"], ["a.png", "words.txt"]),
        (["new/*"], ["a.png", "broken.png", "c.png", "b.png"]),
        (["new/**/[bc]*.png"], ["broken.png", "c.png", "b.png"]),
        (["new/c.png", "new/in*", "empty"], ["c.png", "b.png"]),
        (["odd[1].png"], ["odd[1].png"]),
        (["-"], ["c.png", "a b.png"]),
    ],
)
def test_images_by_file_folder_glob_and_list(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], names: list[str]
) -> None:
    shutil.copytree(project / "new", tmp_path / "new")
    (tmp_path / "empty").mkdir()
    for name in ("odd[1].png", "a b.png"):
        shutil.copy(tmp_path / "new/a.png", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    given = SimpleNamespace(buffer=SimpleNamespace(read=lambda: b"new/c.png\0a b.png\0"))
    monkeypatch.setattr("pipeline.judge.images.sys.stdin", given)
    paths, unmatched = resolve_paths(arguments, tmp_path / "out/overlays")
    assert [Path(path).name for path in paths] == names
    assert unmatched == [argument for argument in arguments if argument == "empty"]


def test_pictures_made_here_are_no_images(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "new", tmp_path / "out/overlays")
    shutil.copy(project / "new/a.png", tmp_path)
    assert resolve_paths([str(tmp_path)], tmp_path / "out/overlays") == ([str(tmp_path / "a.png")], [])


def test_an_image_is_read_as_in_training(tmp_path: Path) -> None:
    """For any mode and size: the same pixels as in the stages, and a note that names the differences."""
    noise = np.random.default_rng(0).integers(0, 2**16, (50, 70))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise.astype(np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray((noise >> 8).astype(np.uint8)).save(tmp_path / "turned.png", exif=turned)
    Image.fromarray(np.full((40, 40), 7, np.uint8)).convert("RGBA").save(tmp_path / "clear.png")
    training = {"width": [40, 40], "height": [40, 60], "modes": ["L", "RGB"]}
    for name, note in (
        ("wide.png", "width 70, in training 40; mode I;16, in training L RGB"),
        ("turned.png", "width 50, in training 40; height 70, in training 40 to 60"),
        ("clear.png", "mode RGBA, in training L RGB; largest value 7 of 255"),
    ):
        image = load_image(str(tmp_path / name), (32, 64), DataConfig())
        assert describe_differences(image, training) == note
        for side in (32, 64):
            assert np.array_equal(image.squares[side], ImageFiles([tmp_path / name], side)[0])
    assert load_image(str(tmp_path / "wide.png"), (32,), DataConfig(max_pixels=3499)).fault.endswith(
        "data.max_pixels = 3499"
    )
    assert "it cannot be read" in load_image(str(tmp_path), (32,), DataConfig()).fault
