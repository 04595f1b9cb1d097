"""Parameters of the backbone."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.types import Config

TIMM = "timm:"


class BackboneConfig(Config):
    """Which frozen feature extractor the rest reads, and how it is trained in-domain where it is."""

    model: str = Field("hybrid", pattern=r"^(hybrid|plain|cnn|timm:[A-Za-z0-9_.\-]+)$")
    """`hybrid`: frozen ImageNet CNN as patch embedding and transformer blocks trained in-domain. `plain`: small ViT
    distilled in-domain from the same CNN. `cnn`: the CNN alone, without class attention. `timm:NAME`: a pretrained
    ViT of timm, say `timm:vit_small_patch14_dinov2.lvd142m`; its weights come over the network or from `checkpoint`."""
    checkpoint: str | None = None
    """Weights file (.safetensors, or .pth read with weights_only) for `timm:NAME`, in place of a download."""
    image_side: int = Field(224, ge=32, le=1024)
    """Side of the input in pixels: a multiple of 32, or of a timm model's own patch."""
    patch: Literal[8, 16] = 16
    """Pixels a token, without effect on timm models: at side 224 the grid is 14 x 14 or 28 x 28."""
    depth: int = Field(4, ge=1, le=24)
    """Transformer blocks of `hybrid` and `plain`."""
    heads: int = Field(4, ge=1, le=16)
    """Attention heads of `hybrid` (divides 176) and `plain` (divides `width`)."""
    width: int = Field(192, ge=16, le=1024)
    """Channels of `plain`; `hybrid` and `cnn` have the CNN's 176."""
    mlp_ratio: float = Field(2.0, ge=0.5, le=8.0)
    """Hidden units of a block's MLP over channels (ViT has 4; 2 trains a third faster)."""
    layer_scale: float = Field(0.01, ge=1e-6, le=1.0)
    """Start value of LayerScale (Touvron et al., CaiT, 2021, eq. 4) in `hybrid`: near zero it starts as the CNN's
    features. `plain` starts at 1."""
    steps: int = Field(200, ge=0, le=100_000)
    """Training steps of `hybrid` and `plain`; 0 leaves them as initialised."""
    batch: int = Field(32, ge=1, le=1024)
    """Crops a step."""
    crops: int = Field(1024, ge=1, le=100_000)
    """Crops drawn from the training images once; the CNN sees each once, whatever `steps` is."""
    crop_side: int = Field(160, ge=32, le=1024)
    """Side in pixels to which a crop is resized, a multiple of 32; the position embedding is resampled to its grid."""
    crop_scale: float = Field(0.3, gt=0.0, le=1.0)
    """Least area of a crop over that of the image; the most is 1."""
    mask_fraction: float = Field(0.4, ge=0.0, le=0.95)
    """Fraction of a crop's 32 x 32 pixel cells whose tokens are masked."""
    class_weight: float = Field(1.0, ge=0.0, le=100.0)
    """Weight of the class token's loss beside the patch tokens'."""
    lr: float = Field(3e-3, gt=0.0, le=1.0)
    """Peak learning rate of AdamW, after a warm-up over a tenth of the steps; a cosine to zero follows."""
    weight_decay: float = Field(0.05, ge=0.0, le=1.0)
    """AdamW's weight decay of matrices."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.model.startswith(TIMM):
            return self
        if self.checkpoint is not None:
            raise ValueError(f"checkpoint is read with model `timm:NAME` alone, the model is `{self.model}`")
        for name in ("image_side", "crop_side"):
            if getattr(self, name) % 32:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of 32")
        channels = self.width if self.model == "plain" else 176
        if channels % self.heads:
            raise ValueError(f"{channels} channels of model `{self.model}` are not a multiple of heads {self.heads}")
        return self


class DistillConfig(Config):
    """DVT's optional stage 3: the backbone itself learns to give clean tokens, so that no block is needed behind it."""

    epochs: int = Field(0, ge=0, le=100_000)
    """Passes over the normal training images. 0: off, the denoiser's block stays."""
    batch: int = Field(8, ge=1, le=4096)
    """Images a step."""
    learning_rate: float = Field(1e-4, gt=0, le=1)
    """Peak of AdamW's learning rate, after a warm-up over a tenth of the steps; a cosine to zero follows."""
    weight_decay: float = Field(1e-5, ge=0, le=10)
    """Decoupled weight decay."""
    cosine_weight: float = Field(1.0, ge=0, le=100)
    """Weight of (1 - cosine similarity) beside the mean squared error, as for the denoiser."""
    patience: int = Field(5, ge=1, le=100_000)
    """Epochs without a lower loss on the validation images before training stops."""
