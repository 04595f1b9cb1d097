"""Masks as annotation tools write them: what is not background is marked."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.download.config import DataConfig
from stages.download.examine import examine_masks
from stages.download.manifest import collect
from stages.download.masks import marked_pixels
from stages.images import decode_mask

MARKED = np.zeros((20, 30), bool)
MARKED[4:9, 10:22] = True


def png(image: Image.Image, format: str = "png") -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def voc(black_first: bool = True) -> Image.Image:
    """A palette image as of PASCAL VOC: class 3 on background, olive on black."""
    image = Image.fromarray((MARKED if black_first else ~MARKED).astype(np.uint8) * 3, "P")
    colours = [(0, 0, 0), (1, 1, 1), (2, 2, 2), (128, 128, 0)]
    image.putpalette([value for colour in (colours if black_first else colours[::-1]) for value in colour])
    return image


def coloured(colour: tuple[int, ...], mode: str = "RGB", ground: tuple[int, ...] | None = None) -> Image.Image:
    image = Image.new(mode, (30, 20), ground or (0,) * len(mode))
    image.paste(colour, (10, 4, 22, 9))
    return image


CASES = {
    "VOC palette": voc(),
    "palette whose first colour is not black": voc(black_first=False),
    "palette without black": (lambda image: (image.putpalette([9, 9, 9] * 256), image)[1])(voc()),
    "class numbers": Image.fromarray(MARKED.astype(np.uint8)),
    "class number 7": Image.fromarray(MARKED.astype(np.uint8) * 7),
    "red on black": coloured((255, 0, 0)),
    "dark blue on black": coloured((0, 0, 64)),
    "16 bits": Image.fromarray(MARKED.astype(np.uint16) * 65535),
    "12 bits": Image.fromarray(MARKED.astype(np.uint16) * 4095),
    "class numbers of 16 bits": Image.fromarray(MARKED.astype(np.uint16)),
    "black paint on transparent": coloured((0, 0, 0, 255), "RGBA"),
    "white paint on opaque black": coloured((255,) * 4, "RGBA", (0, 0, 0, 255)),
    "1 bit": Image.fromarray(MARKED),
    "0 and 255": Image.fromarray(MARKED.astype(np.uint8) * 255),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_background_is_marked(case: str) -> None:
    data = png(CASES[case])
    assert (marked_pixels(data, 127) == MARKED).all()
    facts, stored = examine_masks([("m.png", data)], 127, 10_000)
    assert (facts.reason, facts.marked) == ("", int(MARKED.sum()))
    readable = data if facts.plain else stored  # a file that its readers would read otherwise is written anew
    assert (decode_mask(readable) == MARKED).all()


def test_edges_of_grey_masks_and_the_rule_of_a_publisher_stay() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = png(Image.fromarray(ramp))
    assert (marked_pixels(data, 127) == (ramp > 127)).all()
    assert (marked_pixels(data, 0) == (ramp > 0)).all()
    noisy = np.where(MARKED, 250, 3).astype(np.uint8)  # as JPEG leaves black
    assert (marked_pixels(png(Image.fromarray(noisy)), 127) == MARKED).all()
    rgb = coloured((255, 0, 0))
    assert (marked_pixels(png(rgb, "bmp"), 127) == MARKED).all()


@pytest.mark.parametrize("values", [(0, 255), (0, 65535), (False, True)])
def test_an_inverted_mask_is_refused_by_name(values: tuple[int, int]) -> None:
    defect = np.zeros((40, 60), bool)
    defect[4:9, 10:22] = True
    kind = {255: np.uint8, 65535: np.uint16}.get(values[1], bool)
    image = Image.fromarray(np.where(~defect, values[1], values[0]).astype(kind))
    facts, _ = examine_masks([("part7.png", png(image))], 127, 10_000)
    assert facts.reason == "its mask part7.png marks 98% of the pixels: is it inverted?"


def test_figures_come_from_every_mask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Twelve defects with masks of all these kinds: every one has its mask in the data set."""
    for seed in range(12):
        path = tmp_path / "in/normal" / f"n{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 30), np.uint8)).save(path)
    for number, image in enumerate(CASES.values()):
        for folder in ("defect/cut", "masks/cut"):
            (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(100 + number).integers(0, 256, (20, 30), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"in/defect/cut/d{number}.png")
        (tmp_path / f"in/masks/cut/d{number}.png").write_bytes(png(image))
    config = DataConfig(source="folder", folder=str(tmp_path / "in"), categories=("part",))
    records, rejected = collect(config, tmp_path / "out")
    assert rejected == []
    for record in records:
        if record.label:
            assert (decode_mask((tmp_path / "out" / record.mask_path).read_bytes()) == MARKED).all(), record.path
    assert caplog.messages == []
