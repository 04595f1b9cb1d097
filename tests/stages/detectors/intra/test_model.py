"""The network against a slow one, and what it may and may not look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.intra.restore import inpaint
from tests.reference import intra_model as slow

SIZES = {"image_side": 12, "patch_side": 3, "window_side": 3, "blocks": 5, "width": 16, "heads": 2, "smoothing_side": 3}
SMALL = IntraConfig(**SIZES, space="pixels")
CANVAS = SMALL.canvas((12, 12, 3))


def _network(config: IntraConfig, seed: int = 0) -> InpaintingTransformer:
    """Weights as large as after training: position and norms must count."""
    network = build(config, CANVAS, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            value += 0.2 * torch.randn(value.shape, generator=generator)
        network.paint.weight *= 0.05
    return network


@pytest.mark.parametrize("blocks", [1, 4, 5])
@pytest.mark.parametrize("window", [2, 3])
def test_inpainting_equals_the_slow_reference(blocks: int, window: int) -> None:
    config = SMALL.model_copy(update={"blocks": blocks, "window_side": window, "inference_windows": 7})
    network = _network(config)
    image = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    weights = {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}
    expected = slow.inpaint_image(weights, image, 3, window, blocks, heads=2)
    painted = inpaint(network, image, CANVAS, config, "cpu").numpy()
    assert ((expected > 0) & (expected < 1)).mean() > 0.4  # else clipping would hide a difference
    assert np.abs(painted - expected).max() < 1e-5


def _batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(4, 9, 27, generator=generator)
    positions = torch.stack([torch.randperm(16, generator=generator)[:9] for _ in range(4)])
    return pixels, positions, torch.tensor([0, 3, 8, 4])


def test_the_covered_patch_is_not_seen_and_the_others_are() -> None:
    network, (pixels, positions, covered) = _network(SMALL), _batch(0)
    other = pixels.clone()
    other[torch.arange(4), covered] = 0.5
    before, after = network(pixels, positions, covered), network(other, positions, covered)
    assert torch.equal(before, after)
    other[:, 2] += 0.5
    assert (network(other, positions, covered) - before).abs().amax(1).min() > 1e-4


def test_the_position_is_that_of_the_whole_image() -> None:
    network, (pixels, positions, covered) = _network(SMALL), _batch(0)
    moved = (positions + 1) % 16
    assert (network(pixels, moved, covered) - network(pixels, positions, covered)).abs().max() > 1e-3


def test_the_order_of_tokens_says_nothing_beyond_their_positions() -> None:
    network, (pixels, positions, covered) = _network(SMALL), _batch(0)
    order = torch.tensor([4, 0, 7, 1, 8, 3, 2, 6, 5])
    where = torch.argsort(order)[covered]
    assert torch.allclose(
        network(pixels[:, order], positions[:, order], where), network(pixels, positions, covered), atol=1e-4
    )


def test_every_weight_is_learned() -> None:
    network = _network(SMALL)
    network(*_batch(0)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in network.parameters())


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    a, b, c = (build(SMALL, CANVAS, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(a.position, b.position)
    assert not torch.equal(a.position, c.position)
