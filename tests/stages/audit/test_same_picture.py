"""Copies of a picture agree in what is fine; other parts in the same pose do not."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from stages.audit.config import AuditConfig
from stages.audit.same_picture import SIDE, detail, excess, likeness
from stages.download.phash import perceptual_hash

Pixels = NDArray[np.uint8]


def part(seed: int) -> Pixels:
    """The same shapes, with grain and scratches of its own."""
    rng = np.random.default_rng(seed)
    shapes = np.kron(np.random.default_rng(99).normal(size=(16, 16)), np.ones((SIDE // 16, SIDE // 16)))
    plane = 120 + 40 * gaussian_filter(shapes, 4)
    for _ in range(12):
        row, column = rng.integers(100, 150), rng.integers(45, 180)
        plane[row : row + 2, column : column + rng.integers(5, 30)] -= 25
    plane += rng.normal(0, 4, plane.shape)
    return np.repeat(plane.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def encoded(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return np.asarray(Image.open(buffer))


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "encoded": encoded,
    "brighter": lambda image: (image * 1.2 + 10).clip(0, 255).astype(np.uint8),
    "shifted": lambda image: np.roll(image, (3, 5), (0, 1)),
    "enlarged and back": lambda image: np.asarray(Image.fromarray(image).resize((300, 300)).resize((SIDE, SIDE))),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_the_same_picture(kind: str) -> None:
    others = [likeness(detail(part(0)), detail(part(seed))) for seed in range(1, 6)]
    assert excess(likeness(detail(part(0)), detail(COPIES[kind](part(0)))), float(np.median(others))) > 0.5


def test_other_parts_in_the_same_pose_are_not_though_their_hashes_are_alike() -> None:
    first = perceptual_hash(Image.fromarray(part(0)))
    for seed in range(1, 6):
        bits = (int(first, 16) ^ int(perceptual_hash(Image.fromarray(part(seed))), 16)).bit_count()
        assert bits <= AuditConfig().hash_bits
        assert likeness(detail(part(0)), detail(part(seed))) < 0.5


def test_excess_by_hand() -> None:
    assert excess(0.7, 0.4) == pytest.approx(0.5)
    assert excess(0.4, 0.4) == 0.0
    assert excess(1.0, 1.0) == 0.0


def test_flat_pictures_are_the_same_and_unlike_others() -> None:
    flat, other = detail(np.full((SIDE, SIDE, 3), 7, np.uint8)), detail(np.full((SIDE, SIDE, 3), 200, np.uint8))
    assert likeness(flat, other) == 1.0
    assert likeness(flat, detail(part(0))) == 0.0
    assert likeness(detail(part(0)), detail(part(0))) == pytest.approx(1, abs=1e-5)
