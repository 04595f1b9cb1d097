"""Each architecture that the DVT paper names, and those of other families, by its own name and at its full size.

Weights are zeros, which costs no time. So every token has the same logits, and class attention is 1 / (P + N) exactly:
its value shows that prefix tokens and patches are counted right.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.feature_map import FeatureMap
from stages.backbone.networks.load import network_for
from stages.backbone.networks.timm_vit import TimmVit

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

VITS = [  # patch, channels, heads (0: no class token), prefix tokens, registers, mean and std
    ("vit_small_patch14_dinov2.lvd142m", 14, 384, 6, 1, 0, IMAGENET),
    ("vit_base_patch14_dinov2.lvd142m", 14, 768, 12, 1, 0, IMAGENET),
    ("vit_large_patch14_dinov2.lvd142m", 14, 1024, 16, 1, 0, IMAGENET),
    ("vit_small_patch14_reg4_dinov2.lvd142m", 14, 384, 6, 5, 4, IMAGENET),
    ("vit_base_patch14_reg4_dinov2.lvd142m", 14, 768, 12, 5, 4, IMAGENET),
    ("vit_large_patch14_reg4_dinov2.lvd142m", 14, 1024, 16, 5, 4, IMAGENET),
    ("deit3_base_patch16_224.fb_in1k", 16, 768, 12, 1, 0, IMAGENET),
    ("vit_base_patch16_clip_384.laion2b_ft_in12k_in1k", 16, 768, 12, 1, 0, CLIP),
    ("vit_base_patch16_224.dino", 16, 768, 12, 1, 0, IMAGENET),
    ("vit_base_patch16_224.mae", 16, 768, 12, 1, 0, IMAGENET),
    ("eva02_base_patch16_clip_224.merged2b", 16, 768, 12, 1, 0, CLIP),
    ("vit_base_patch16_384.augreg_in21k_ft_in1k", 16, 768, 12, 1, 0, HALF),
    # beyond the paper
    ("vit_base_patch16_siglip_224.webli", 16, 768, 0, 0, 0, HALF),
    ("vit_small_patch16_dinov3.lvd1689m", 16, 384, 6, 5, 4, IMAGENET),
    ("vit_tiny_patch16_dinov3_qkvb", 16, 192, 3, 5, 4, IMAGENET),
    ("eva02_tiny_patch14_224.mim_in22k", 14, 192, 3, 1, 0, CLIP),
    ("deit_tiny_distilled_patch16_224.fb_in1k", 16, 192, 3, 2, 0, IMAGENET),
    ("vit_tiny_r_s16_p8_224.augreg_in21k", 32, 192, 3, 1, 0, HALF),
    ("cait_xxs24_224.fb_dist_in1k", 16, 192, 0, 1, 0, IMAGENET),  # the class token comes in behind the blocks
]

MAPS = [  # channels of strides 4, 8 and 16
    ("timm:gcvit_xxtiny.in1k", 64 + 128 + 256),
    ("timm:swin_tiny_patch4_window7_224.ms_in1k", 96 + 192 + 384),
    ("cnn:convnext_atto.d2_in1k", 40 + 80 + 160),
    ("cnn:resnet18.a1_in1k", 64 + 128 + 256),
    ("cnn:tf_efficientnet_lite0.in1k", 24 + 40 + 112),
    ("cnn:densenet121.ra_in1k", 256 + 512 + 1024),
    ("timm:efficientnet_b0.ra_in1k", 24 + 40 + 112),
]


class Zeros(TorchFunctionMode):
    """Random initial values of matrices are zeros instead, written once."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_, init.kaiming_uniform_, init.trunc_normal_):
            return (args[0] if args else kwargs["tensor"]).detach().zero_()
        if func in (Tensor.erfinv_, Tensor.mul_, Tensor.add_, Tensor.clamp_) and args[0].ndim > 1:
            return args[0]
        return func(*args, **(kwargs or {}))


def built(model: str, side: int) -> Any:
    with Zeros():
        return network_for(BackboneConfig(model=model, image_side=side))


@pytest.mark.parametrize(("name", "patch", "channels", "heads", "prefix", "registers", "pixels"), VITS)
def test_every_vit_gives_tokens_attention_and_its_own_figures(
    name: str, patch: int, channels: int, heads: int, prefix: int, registers: int, pixels: Any
) -> None:
    network = built(f"timm:{name}", 4 * patch)
    assert isinstance(network, TimmVit) and not network.training
    assert (network.grid, network.channels, network.heads) == ((4, 4), channels, heads)
    assert (network.prefix_tokens, network.registers, network.blocks) == (prefix, registers, (len(network.vit.blocks),))
    for stored, expected in zip((network.mean, network.spread), pixels, strict=True):
        torch.testing.assert_close(stored / 255, torch.tensor(expected))
    with torch.inference_mode():
        tokens, attention = network(torch.full((1, 3, 4 * patch, 4 * patch), 100.0))
    assert tokens.shape == (1, channels, 4, 4)
    if heads == 0:
        assert attention is None
    else:
        assert attention is not None
        torch.testing.assert_close(attention, torch.full((1, heads, 4, 4), 1 / (prefix + 16)))


@pytest.mark.parametrize(("model", "channels"), MAPS)
def test_every_network_with_stages_gives_stacked_maps(model: str, channels: int) -> None:
    network = built(model, 64)
    assert isinstance(network, FeatureMap) and not network.training
    with torch.inference_mode():
        tokens, attention = network(torch.full((1, 3, 64, 64), 100.0))
    assert attention is None and network.heads == 0 and network.grid == (4, 4)
    assert tokens.shape == (1, channels, 4, 4) and network.channels == channels
