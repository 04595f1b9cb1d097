"""Parameters of the backbone."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.backbone.objectives.config import DinoConfig, MfmConfig, SdsslConfig, SelfpatchConfig
from stages.types import Config

TIMM, CNN = "timm:", "cnn:"
RATES = {"distill": 3e-3, "mfm": 3e-3}
SELF_DISTILLED_RATE = 5e-4
"""Peak learning rates by objective, chosen by validation loss (objectives/README.md)."""


class BackboneConfig(Config):
    """Which frozen feature extractor the rest reads, and how it is trained in-domain where it is."""

    model: str = Field("hybrid", pattern=r"^(hybrid|plain|cnn|(timm|cnn):[A-Za-z0-9_.\-]+)$")
    """`hybrid`: frozen ImageNet CNN as patch embedding and transformer blocks trained in-domain. `plain`: small ViT
    trained in-domain. `cnn`: the CNN alone, without class attention. `timm:NAME`: a pretrained
    ViT of timm, say `timm:vit_small_patch14_dinov2.lvd142m`; its weights come over the network or from `checkpoint`.
    `cnn:NAME`: feature maps of a convolutional network of timm, say `cnn:wide_resnet50_2.tv_in1k`, without class
    attention; `timm:NAME` reads hierarchical transformers (GC ViT, Swin) in the same way."""
    checkpoint: str | None = None
    """Weights file (.safetensors, or .pth read with weights_only) for `timm:NAME` and `cnn:NAME`, in place of a
    download: timm's own, or the original file of DINO, DINOv2 or MAE."""
    block: int | None = Field(None, ge=1, le=1000)
    """Transformer block, counted from 1, whose tokens (after the final norm) and class attention are read; those after
    it do not run. null: the last."""
    strides: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field((4, 8, 16), min_length=1, max_length=7)
    """For `cnn:NAME` and hierarchical transformers: strides in pixels of the feature maps that are stacked, each
    brought to the grid of `patch` (PatchCore, Roth et al., CVPR 2022, section 3.1, has 8 and 16)."""
    image_side: int = Field(224, ge=32, le=1024)
    """Side of the input in pixels: a multiple of 32, or of the patch of a ViT of timm (of `patch` for its other
    models). A position embedding that was trained at another side is resampled."""
    patch: Literal[8, 16] = 16
    """Pixels a token, without effect on ViTs of timm: at side 224 the grid is 14 x 14 or 28 x 28."""
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
    objective: Literal["distill", "dino", "selfpatch", "sdssl", "mfm"] = "distill"
    """What `hybrid` and `plain` learn from. `distill`: predict the features of a frozen CNN, `teacher`. `dino`: views
    of an image agree. `selfpatch`: so do neighbouring patches. `sdssl`: so do the blocks. `mfm`: masked frequencies."""
    teacher: str = Field("lite0", pattern=r"^(lite[012]|timm:[A-Za-z0-9_.\-]+)$")
    """Frozen CNN that `distill` learns from: ImageNet EfficientNet-Lite0 to 2, or `timm:NAME`, whose weights come over
    the network or from `teacher_checkpoint`. The CNN within `hybrid` is Lite0 in any case."""
    teacher_checkpoint: str | None = None
    """Weights file (.safetensors, or .pth read with weights_only) for a `timm:NAME` teacher, in place of a download."""
    steps: int = Field(200, ge=0, le=100_000)
    """Training steps of `hybrid` and `plain`; 0 leaves them as initialised."""
    batch: int = Field(32, ge=1, le=1024)
    """Crops of full size a step; with `dino`, `selfpatch` and `sdssl` two of them are of one image."""
    crops: int = Field(1024, ge=1, le=100_000)
    """Crops drawn from the training images once; the CNN sees each once, whatever `steps` is."""
    crop_side: int = Field(160, ge=32, le=1024)
    """Side in pixels to which a crop is resized, a multiple of 32; the position embedding is resampled to its grid."""
    crop_scale: float = Field(0.3, gt=0.0, le=1.0)
    """Least area of a crop over that of the image; the most is 1."""
    mask_fraction: float = Field(0.4, ge=0.0, le=0.95)
    """`distill`: fraction of a crop's 32 x 32 pixel cells whose tokens are masked."""
    class_weight: float = Field(1.0, ge=0.0, le=100.0)
    """`distill`: weight of the class token's loss beside the patch tokens'."""
    lr: float | None = Field(None, gt=0.0, le=1.0)
    """Peak learning rate of AdamW, after a warm-up over a tenth of the steps; a cosine to zero follows. null: 0.003
    for `distill` and `mfm`, 0.0005 for the other objectives."""
    weight_decay: float = Field(0.05, ge=0.0, le=1.0)
    """AdamW's weight decay of matrices."""
    mixed_precision: bool = False
    """Train in half precision where the training runs on a GPU; a CPU trains in single precision in any case."""
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
            raise ValueError(f"strides {list(self.strides)} are not in ascending order, each once")
        if self.block is not None and (self.model == "cnn" or self.model.startswith(CNN)):
            raise ValueError(f"block {self.block}: model `{self.model}` has no transformer blocks")
        if self.timm_name is not None:
            return self
        if self.checkpoint is not None:
            raise ValueError(f"checkpoint is read with models `timm:NAME` and `cnn:NAME`, the model is `{self.model}`")
        if self.block is not None and self.block > self.depth:
            raise ValueError(f"block {self.block} is beyond depth {self.depth} of model `{self.model}`")
        for name in ("image_side", "crop_side"):
            if getattr(self, name) % 32:
                raise ValueError(f"{name} {getattr(self, name)} is not a multiple of 32")
        channels = self.width if self.model == "plain" else 176
        if channels % self.heads:
            raise ValueError(f"{channels} channels of model `{self.model}` are not a multiple of heads {self.heads}")
        if self.teacher_checkpoint is not None and not self.teacher.startswith(TIMM):
            raise ValueError(
                f"teacher_checkpoint is read with teacher `timm:NAME` alone, the teacher is `{self.teacher}`"
            )
        if self.model != "cnn" and self.objective in ("dino", "selfpatch", "sdssl"):
            self._check_views()
        return self

    def _check_views(self) -> None:
        if self.batch < 2:
            raise ValueError(f"batch {self.batch} holds no two views of an image, which `{self.objective}` compares")
        if self.dino.local_scale > self.crop_scale:
            raise ValueError(f"dino.local_scale {self.dino.local_scale} is more than crop_scale {self.crop_scale}")
        if self.objective == "sdssl" and self.sdssl.first_block >= self.depth:
            raise ValueError(
                f"sdssl.first_block {self.sdssl.first_block} leaves no block before the last of depth {self.depth}"
            )

    @property
    def timm_name(self) -> str | None:
        """What timm calls the model, if it is one of timm."""
        return self.model.partition(":")[2] or None

    @property
    def rate(self) -> float:
        """Peak learning rate of the objective."""
        return self.lr if self.lr is not None else RATES.get(self.objective, SELF_DISTILLED_RATE)


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
