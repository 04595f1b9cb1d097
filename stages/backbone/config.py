"""Parameters of the backbone."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.backbone.objectives.config import DinoConfig, MfmConfig, SdsslConfig, SelfpatchConfig
from stages.types import Config

TIMM, CNN = "timm:", "cnn:"
FOCUS, FOCUS_ARCHITECTURE = "focus", "vit_small_patch14_dinov2"
RATES = {"distill": 3e-3, "mfm": 3e-3}
"""Peak learning rates of `distill` and `mfm`."""
SELF_DISTILLED_RATE = 5e-4
"""Peak learning rate of the other objectives. All rates were chosen by validation loss (objectives/README.md)."""


class BackboneConfig(Config):
    """The frozen feature extractor, and how it is trained on your good images."""

    model: str = Field("hybrid", pattern=r"^(hybrid|plain|cnn|focus|(timm|cnn):[A-Za-z0-9_.\-]+)$")
    """`hybrid`: frozen ImageNet CNN, then transformer blocks trained on your images. `plain`: small ViT trained on
    them. `cnn`: the CNN alone. `timm:NAME`: pretrained ViT of timm. `cnn:NAME`: feature maps of a CNN of timm.

    `focus`: DINOv2's ViT-S/14, fine-tuned for saliency, from a package; a pretrained ViT without a network. Examples
    of names: `timm:vit_small_patch14_dinov2.lvd142m`, `cnn:wide_resnet50_2.tv_in1k`. Their weights come over the
    network or from `checkpoint`. `timm:NAME` reads hierarchical transformers (GC ViT, Swin) as feature maps too. `cnn`
    and feature maps have no class attention."""
    checkpoint: str | None = None
    """Weights file (.safetensors, .pth) for `timm:NAME` and `cnn:NAME`. null: download.

    Either timm's own file or the original file of DINO, DINOv2 or MAE. A .pth file is read with weights_only."""
    blocks: tuple[Annotated[int, Field(ge=1, le=1000)], ...] | None = Field(None, min_length=1, max_length=24)
    """Transformer blocks that are read, counted from 1, such as [6, 9]. null: the last.

    Their tokens (after the final norm) and the last one's class attention are read; the blocks after it do not run."""
    join_blocks: Literal["average", "stack"] = "average"
    """Tokens of several `blocks`: their `average`, or channels of all (`stack`)."""
    strides: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((4, 8, 16), min_length=1, max_length=7)
    """For `cnn:NAME` and hierarchical transformers: strides of the stacked feature maps.

    In pixels. Each map is brought to the grid of `patch`. PatchCore (Roth et al., CVPR 2022, section 3.1) has 8 and
    16."""
    image_side: int = Field(224, ge=32, le=1024)
    """Side of the input in pixels: a multiple of 32, or of the patch size of a ViT of timm.

    For other models of timm: a multiple of `patch`. A position embedding that was trained at another side is
    resampled."""
    patch: Literal[8, 16] = 16
    """Pixels per token along a side: `16` (14 x 14 tokens at side 224) or `8` (28 x 28).

    Without effect on ViTs of timm, which have a patch size of their own."""
    depth: int = Field(4, ge=1, le=24)
    """Transformer blocks of `hybrid` and `plain`."""
    heads: int = Field(4, ge=1, le=16)
    """Attention heads of `hybrid` (a divisor of 176) and of `plain` (a divisor of `width`)."""
    width: int = Field(192, ge=16, le=1024)
    """Channels of `plain`; `hybrid` and `cnn` have the CNN's 176."""
    mlp_ratio: float = Field(2.0, ge=0.5, le=8.0)
    """Hidden units of a block's MLP over its channels.

    ViT has 4; 2 trains a third faster."""
    layer_scale: float = Field(0.01, ge=1e-6, le=1.0)
    """Start value of LayerScale in `hybrid`: near zero it starts as the CNN's features.

    Touvron et al., CaiT, 2021, eq. 4. `plain` starts at 1."""
    objective: Literal["distill", "dino", "selfpatch", "sdssl", "mfm"] = "distill"
    """What `hybrid` and `plain` learn. `distill`: to predict a frozen CNN's features. `dino`: that an image's views
    agree. `selfpatch`: also patches. `sdssl`: also blocks. `mfm`: to predict masked frequencies.

    The frozen CNN of `distill` is `teacher`. With `selfpatch` neighbouring patches agree too, with `sdssl` blocks."""
    teacher: str = Field("lite0", pattern=r"^(lite[012]|timm:[A-Za-z0-9_.\-]+)$")
    """Frozen CNN of `distill`: `lite0` to `lite2` (EfficientNet-Lite), or `timm:NAME`.

    The Lite networks have ImageNet weights. Weights of `timm:NAME` come over the network or from `teacher_checkpoint`.
    The CNN within `hybrid` is always Lite0."""
    teacher_checkpoint: str | None = None
    """Weights file (.safetensors or .pth) for a `timm:NAME` teacher, in place of a download.

    A .pth file is read with weights_only."""
    steps: int = Field(200, ge=0, le=100_000)
    """Training steps of `hybrid` and `plain`; 0 keeps the initial weights."""
    batch: int = Field(32, ge=1, le=1024)
    """Full-size crops per step.

    With `dino`, `selfpatch` and `sdssl` two of them are from one image."""
    crops: int = Field(1024, ge=1, le=100_000)
    """Crops sampled from the training images, once.

    The frozen CNN sees each crop once, whatever `steps` is."""
    crop_side: int = Field(160, ge=32, le=1024)
    """Side in pixels to which a crop is resized, a multiple of 32.

    The position embedding is resampled to its grid."""
    crop_scale: float = Field(0.3, gt=0.0, le=1.0)
    """Smallest area of a crop as a share of the image; the largest is 1."""
    mask_fraction: float = Field(0.4, ge=0.0, le=0.95)
    """`distill`: share of a crop's cells of 32 x 32 pixels whose tokens are masked."""
    class_weight: float = Field(1.0, ge=0.0, le=100.0)
    """`distill`: weight of the class token's loss, relative to the patch tokens'."""
    lr: float | None = Field(None, gt=0.0, le=1.0)
    """Peak learning rate of AdamW. null: 0.003 for `distill` and `mfm`, else 0.0005.

    It rises over a tenth of the steps, then falls to zero along a cosine."""
    weight_decay: float = Field(0.05, ge=0.0, le=1.0)
    """AdamW's weight decay of matrices."""
    mixed_precision: bool = False
    """Train in half precision on a GPU. A CPU always trains in single precision."""
    dino: DinoConfig = DinoConfig()
    """Views, heads and temperatures of `dino`, `selfpatch` and `sdssl`."""
    selfpatch: SelfpatchConfig = SelfpatchConfig()
    """The patches' part of `selfpatch`."""
    sdssl: SdsslConfig = SdsslConfig()
    """The intermediate blocks' part of `sdssl`."""
    mfm: MfmConfig = MfmConfig()
    """The masked frequencies of `mfm`."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.strides) != sorted(set(self.strides)):
            raise ValueError(f"strides {list(self.strides)} must be in ascending order, each stride once")
        self._check_blocks()
        if self.model == FOCUS and self.checkpoint is not None:
            raise ValueError("checkpoint is read only with `timm:NAME` and `cnn:NAME`, the model is `focus`")
        if self.timm_name is not None:
            return self
        if self.checkpoint is not None:
            raise ValueError(f"checkpoint is read only with `timm:NAME` and `cnn:NAME`, the model is `{self.model}`")
        if self.blocks is not None and self.blocks[-1] > self.depth:
            raise ValueError(f"block {self.blocks[-1]} is beyond depth {self.depth} of model `{self.model}`")
        for name in ("image_side", "crop_side"):
            if getattr(self, name) % 32:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of 32")
        channels = self.width if self.model == "plain" else 176
        if channels % self.heads:
            raise ValueError(f"{channels} channels of model `{self.model}` are not a multiple of heads {self.heads}")
        if self.teacher_checkpoint is not None and not self.teacher.startswith(TIMM):
            raise ValueError(
                f"teacher_checkpoint is read only with teacher `timm:NAME`, the teacher is `{self.teacher}`"
            )
        if self.model != "cnn" and self.objective in ("dino", "selfpatch", "sdssl"):
            self._check_views()
        return self

    def _check_blocks(self) -> None:
        if self.blocks is None:
            return
        if self.model == "cnn" or self.model.startswith(CNN):
            raise ValueError(f"blocks {list(self.blocks)}: model `{self.model}` has no transformer blocks")
        if list(self.blocks) != sorted(set(self.blocks)):
            raise ValueError(f"blocks {list(self.blocks)} must be in ascending order, each block once")

    def _check_views(self) -> None:
        if self.batch < 2:
            raise ValueError(f"batch {self.batch} cannot hold two views of an image, which `{self.objective}` compares")
        if self.dino.local_scale > self.crop_scale:
            raise ValueError(f"dino.local_scale {self.dino.local_scale} is more than crop_scale {self.crop_scale}")
        if self.objective == "sdssl" and self.sdssl.first_block >= self.depth:
            raise ValueError(
                f"sdssl.first_block {self.sdssl.first_block} leaves no block before the last of depth {self.depth}"
            )

    @property
    def timm_name(self) -> str | None:
        """timm's name of the architecture; None if it is not one of timm's."""
        return FOCUS_ARCHITECTURE if self.model == FOCUS else self.model.partition(":")[2] or None

    @property
    def rate(self) -> float:
        """Peak learning rate of the objective."""
        return self.lr if self.lr is not None else RATES.get(self.objective, SELF_DISTILLED_RATE)


class DistillConfig(Config):
    """DVT step 3, optional: the backbone itself learns to give clean tokens.

    Then no denoiser block is needed after it.
    """

    epochs: int = Field(0, ge=0, le=100_000)
    """Passes over the good training images. 0: off, the denoiser's block is used."""
    batch: int = Field(8, ge=1, le=4096)
    """Images per training step."""
    learning_rate: float = Field(1e-4, gt=0, le=1)
    """Peak learning rate of AdamW.

    It rises over a tenth of the steps, then falls to zero along a cosine."""
    weight_decay: float = Field(1e-5, ge=0, le=10)
    """Decoupled weight decay."""
    cosine_weight: float = Field(1.0, ge=0, le=100)
    """Loss weight of (1 - cosine similarity), beside the mean squared error.

    The loss is the denoiser's."""
    patience: int = Field(5, ge=1, le=100_000)
    """Training stops after this many epochs without a lower validation loss."""
