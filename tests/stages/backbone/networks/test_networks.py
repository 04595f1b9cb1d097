"""The CNN and the transformer against slow versions; what a mask, a scale and another grid do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages.backbone.networks import lite0
from stages.backbone.networks.crops import to_pixels
from stages.backbone.networks.lite0 import imagenet
from stages.backbone.networks.vit import Attention, Hybrid, Plain, Trunk
from stages.types import UserError
from tests.reference.backbone_features import attend, cnn_stack
from tests.stages.backbone.conftest import small


@pytest.mark.parametrize("zeros", [False, True])
def test_the_folded_cnn_gives_what_timms_own_gives(train: NDArray[np.uint8], zeros: bool) -> None:
    network = imagenet(16, deep=True, zeros=zeros).train()  # it must stay in evaluation mode
    stack, deep = network(to_pixels(train[:1]))
    expected_stack, expected_deep = cnn_stack(train[0], 16, zeros)
    np.testing.assert_allclose(stack[0].numpy(), expected_stack, atol=2e-4)
    np.testing.assert_allclose(deep[0].numpy(), expected_deep, atol=2e-4)
    assert not any(p.requires_grad for p in network.parameters())


def test_a_finer_grid_averages_to_nearly_the_same_stack(train: NDArray[np.uint8]) -> None:
    fine = imagenet(8, deep=False)(to_pixels(train[:1]))[0]
    coarse = imagenet(16, deep=False)(to_pixels(train[:1]))[0]
    assert fine.shape == (1, 176, 8, 8)
    shallow = torch.nn.functional.avg_pool2d(fine, 2)[:, :64]  # strides 4 and 8: means of means
    torch.testing.assert_close(shallow, coarse[:, :64], atol=1e-4, rtol=1e-4)


def test_the_weights_know_a_photograph() -> None:
    """The one-to-one order of names is right only if the whole network classifies."""
    import timm
    from sklearn.datasets import load_sample_image

    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(lite0._renamed(network), strict=False)
    pixels = torch.nn.functional.interpolate(to_pixels(load_sample_image("flower.jpg")[None]), (224, 224))
    assert int(network((pixels - 127) / 128).argmax()) == 985  # daisy


def test_another_weights_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0.torch, "load", lambda *_, **__: {"w": torch.zeros(2)})
    with pytest.raises(UserError, match=r"the 1 tensors .* do not match the 247 .* reinstall"):
        imagenet(16, deep=False)


def test_attention_equals_loops() -> None:
    torch.manual_seed(0)
    layer, x = Attention(8, 2), torch.randn(1, 5, 8)
    out, weights = layer(x)
    q, k, v = (part.reshape(5, 2, 4) for part in layer.qkv(x)[0].split(8, dim=1))
    heads = [attend(q[:, h], k[:, h], v[:, h]) for h in range(2)]
    torch.testing.assert_close(out[0], layer.out(torch.cat([mixed for mixed, _ in heads], dim=1)))
    torch.testing.assert_close(weights[0], torch.stack([w[0] for _, w in heads]))


def test_a_masked_patch_cannot_be_seen_and_a_visible_one_can() -> None:
    torch.manual_seed(0)
    trunk = Trunk(32, small(model="plain"), 1.0)
    patches, changed = torch.randn(1, 32, 4, 4), None
    masked = torch.zeros(1, 4, 4, dtype=torch.bool)
    masked[0, 1, 2] = True
    changed = patches.clone()
    changed[0, :, 1, 2] += 5
    for first, second in zip(trunk(patches, masked), trunk(changed, masked), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(trunk(patches)[0][0, :, 0, 0], trunk(changed)[0][0, :, 0, 0])


def test_the_position_embedding_is_resampled_to_another_grid() -> None:
    trunk = Trunk(32, small(model="plain"), 1.0)
    assert torch.equal(trunk.position_at(4, 4), trunk.position)
    with torch.no_grad():
        trunk.position.copy_(torch.arange(4.0).expand(32, 4, 4))  # grows from left to right
    finer = trunk.position_at(8, 8)
    assert torch.allclose(finer.mean(0), finer[0, 0].expand(8, 8), atol=1e-5)
    assert bool((finer[0, 0].diff() > 0).all())
    assert trunk(torch.randn(2, 32, 2, 6))[2].shape == (2, 4, 2, 6)


def test_the_hybrid_starts_as_the_cnn(train: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network = Hybrid(small(layer_scale=1e-6))
    with torch.no_grad():
        network.trunk.position.zero_()
        tokens, attention = network(to_pixels(train))
        torch.testing.assert_close(tokens, network.patches(to_pixels(train)), atol=1e-4, rtol=1e-4)
    assert attention is not None and bool((attention.sum((2, 3)) < 1).all())


def test_the_plain_vit_ends_with_its_norm(train: NDArray[np.uint8]) -> None:
    tokens, _ = Plain(small(model="plain"))(to_pixels(train))  # (B, 32, 4, 4)
    torch.testing.assert_close(tokens.mean(1), torch.zeros(5, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.std(1, unbiased=False), torch.ones(5, 4, 4), atol=1e-3, rtol=0)
