"""Near-duplicates: found by hash, found by features, and against a slow search."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from stages.audit.config import AuditConfig
from stages.audit.same_picture import detail, likeness
from stages.audit.twins import Looks, looks, twins
from stages.download.phash import BITS, perceptual_hash


def texture(seed: int, side: int = 96) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (12, 12))
    large = np.kron(coarse, np.ones((side // 12, side // 12)))
    return Image.fromarray(np.clip(128 + 40 * large + rng.normal(0, 4, (side, side)), 0, 255).astype(np.uint8))


def different(a: str, b: str) -> int:
    return (int(a, 16) ^ int(b, 16)).bit_count()


def test_the_hash_survives_encoding_and_exposure_and_tells_parts_apart() -> None:
    image = texture(0)
    own = perceptual_hash(image)
    assert len(own) == BITS // 4
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    darker = Image.fromarray((np.asarray(image) * 0.6 + 20).astype(np.uint8))
    for other in (Image.open(buffer), darker, image.resize((150, 150), Image.Resampling.BICUBIC)):
        assert different(own, perceptual_hash(other)) <= 20
    assert min(different(own, perceptual_hash(texture(seed))) for seed in range(1, 20)) > 80


def random_looks(n: int = 60, k: int = 20) -> Looks:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(n, k)).astype(np.float32)
    signs = rng.choice([-1.0, 1.0], (n, 64)).astype(np.float32)
    directions[7] = directions[40] + 0.1 * directions[7]  # the same part again
    signs[9], signs[9, :3] = signs[41], -signs[41, :3]  # the same picture but for three bits
    signs[5] = signs[42]  # another part in the same pose
    images = rng.integers(0, 255, (n, 32, 32, 3), np.uint8)
    images[9] = images[41]
    return Looks(signs, directions / np.linalg.norm(directions, axis=1, keepdims=True), images)


def test_twins_equal_a_slow_search() -> None:
    images, config = random_looks(), AuditConfig(hash_bits=5, similarity=4.0)
    rows, candidates = np.arange(30), np.arange(30, 60)
    result = twins(images, rows, candidates, config)
    assert images.directions is not None
    for place, row in enumerate(rows):
        near = []
        for i, candidate in enumerate(candidates):
            bits = int((images.signs[row] != images.signs[candidate]).sum())
            similar = float(images.directions[row] @ images.directions[candidate]) * np.sqrt(20)
            own, references = detail(images.images[row]), [0, 8, 16, 25, 33, 42, 50, 59]
            typical = np.median([likeness(own, detail(images.images[i])) for i in references if i != row])
            same = (likeness(own, detail(images.images[candidate])) - typical) / (1 - typical) >= 0.4
            if (bits <= 5 and same) or similar >= 4.0:
                near.append((similar - bits / 64, i, bits, similar))
        assert result.count[place] == len(near)
        if near:
            _, i, bits, similar = max(near)
            assert (result.partner[place], result.bits[place]) == (i, bits)
            assert result.similarity[place] == pytest.approx(similar, abs=1e-5)
        else:
            assert result.partner[place] == -1
    assert result.partner[7] == 10 and result.partner[9] == 11 and result.has_partner.sum() == 2


def test_thresholds_decide() -> None:
    images = random_looks()
    rows, candidates = np.arange(30), np.arange(30, 60)
    assert not twins(images, rows, candidates, AuditConfig(hash_bits=2, similarity=50)).has_partner.any()
    assert (
        twins(images, rows, candidates, AuditConfig(hash_bits=3, similarity=50)).has_partner.tolist().index(True) == 9
    )
    assert not twins(images, rows, np.array([], np.int64), AuditConfig()).has_partner.any()


def images_with_twins(n: int = 120, c: int = 40) -> np.ndarray:
    """(n, 4, 4, c) tokens; the second half are the first again, hardly changed, but for the last ten."""
    rng = np.random.default_rng(1)
    parts = rng.normal(size=(n // 2, 4, 4, c)) * np.linspace(1, 30, c)
    again = parts + rng.normal(size=parts.shape)
    again[-10:] = rng.normal(size=again[-10:].shape) * np.linspace(1, 30, c)
    return np.concatenate([parts, again]).astype(np.float16)


def test_features_find_parts_that_were_moved_to_another_picture() -> None:
    tokens, rng = images_with_twins(), np.random.default_rng(2)
    hashes = [rng.bytes(32).hex() for _ in tokens]
    images = looks(hashes, tokens, noise(120), AuditConfig())
    assert images.directions is not None and images.directions.shape == (120, 30)  # a quarter of the images
    result = twins(images, np.arange(60, 120), np.arange(60), AuditConfig(similarity=4.5))
    assert result.partner[:50].tolist() == list(range(50))
    assert not result.has_partner[50:].any()
    assert looks(hashes, tokens, noise(120), AuditConfig(directions=20)).directions.shape == (120, 20)  # type: ignore[union-attr]


def test_few_images_are_compared_by_hash_alone() -> None:
    tokens, rng = images_with_twins(40), np.random.default_rng(2)
    hashes = [rng.bytes(32).hex() for _ in range(20)]
    pictures = noise(40)
    pictures[20:38] = pictures[:18]  # the last two are other parts in the same pose
    seen = looks(hashes * 2, tokens, pictures, AuditConfig())
    result = twins(seen, np.arange(20, 40), np.arange(20), AuditConfig())
    assert result.partner.tolist() == [*range(18), -1, -1] and np.isnan(result.similarity).all()
    anything = twins(seen, np.arange(20, 40), np.arange(20), AuditConfig(same_picture=-1))
    assert anything.partner.tolist() == list(range(20))


def test_only_the_most_similar_hashes_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty candidates of the same hash but for one bit; one of the same hash is looked at first."""
    monkeypatch.setattr("stages.audit.twins.CHECKED", 1)
    signs = np.ones((21, 64), np.float32)
    signs[1:20, 0] = -1
    pictures = noise(21)
    pictures[20] = pictures[0]
    result = twins(Looks(signs, None, pictures), np.array([0]), np.arange(1, 21), AuditConfig())
    assert (result.partner[0], result.count[0]) == (19, 1)


def test_edges_that_all_images_share_are_no_sign() -> None:
    """Forty parts that lie in the same place: sharp edges agree, grain does not. One is there twice."""
    rng = np.random.default_rng(4)
    shapes = np.kron(rng.normal(size=(8, 8)), np.ones((16, 16)))[..., None]
    pictures = np.clip(128 + 40 * shapes + 6 * rng.normal(size=(40, 128, 128, 3)), 0, 255).astype(np.uint8)
    pictures[39] = np.clip(pictures[3] * 0.9 + 5, 0, 255)
    assert likeness(detail(pictures[0]), detail(pictures[1])) > 0.5
    seen = Looks(np.ones((40, 64), np.float32), None, pictures)
    result = twins(seen, np.arange(30, 40), np.arange(30), AuditConfig())
    assert result.partner.tolist() == [-1] * 9 + [3]


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 255, (count, 32, 32, 3), np.uint8)


def test_parts_of_the_grid_count_apart() -> None:
    """Two images whose tokens are the same but in other places are no twins."""
    rng = np.random.default_rng(3)
    tokens = rng.normal(size=(100, 4, 4, 30)).astype(np.float32)
    tokens[:, :2] += 3 * rng.normal(size=(100, 1, 1, 30))
    tokens[1] = tokens[0][::-1]  # upside down: the same mean
    images = looks([rng.bytes(32).hex() for _ in tokens], tokens, noise(100), AuditConfig())
    assert twins(images, np.array([1]), np.array([0]), AuditConfig(similarity=3)).partner.tolist() == [-1]
