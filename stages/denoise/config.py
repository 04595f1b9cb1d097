"""Parameters of DVT: `DenoiseConfig` (stage 1, image by image) and `DenoiserConfig` (stage 2, the network)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stages.types import Config, UserError

Share = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(ge=0.1, le=10)]
Smoothness = Annotated[float, Field(ge=1e-6, le=1e6)]


class NeuralFieldConfig(Config):
    """The paper's optimisation of one image: the slow reference beside least squares.

    The defaults match the capacity to some 4,000 tokens (20 views of 14 x 14): on views that no fit saw, 4 cells a
    patch already lose to them (R^2 0.64 against 0.71). Cells are counted along a side.
    """

    steps: int = Field(1000, ge=10, le=1_000_000)
    """Adam steps an image (the paper: 25,000). From 4,000 on the content field learns the noise of 20 views."""
    batch: int = Field(2048, ge=1, le=1_048_576)
    """Tokens a step, drawn evenly among those of all views (the paper's)."""
    learning_rate: float = Field(1e-2, gt=0, le=1)
    """Peak, after a warm-up over a tenth of the steps; a cosine to a tenth of it follows (the paper's)."""
    weight_decay: float = Field(2e-6, ge=0, le=1)
    """Adam's, on all parameters (the paper: 1e-5, which lost 0.004 of R^2)."""
    levels: int = Field(6, ge=1, le=32)
    """Grids of growing resolution that make up the content field (the paper: 16)."""
    level_features: int = Field(8, ge=1, le=64)
    """Features a node of each level (the paper's)."""
    coarsest: float = Field(0.15, gt=0, le=64)
    """Cells a patch of the first level (the paper: 16 an image, which at 37 patches are 0.43)."""
    finest: float = Field(1.5, gt=0, le=64)
    """Cells a patch of the last level (the paper: 1,024 an image, which at 37 patches are 28)."""
    table_log2: int = Field(16, ge=1, le=24)
    """Levels with more than 2^this nodes are hashed into so many rows (the paper: 20)."""
    hidden: float = Field(1.0, gt=0, le=8)
    """Hidden units of the content field's MLP, as a share of the channels (the paper: 0.5)."""
    residual_hidden: float = Field(0.25, gt=0, le=8)
    """Hidden units of both layers of the residual network, as a share of the channels (the paper's)."""
    artifact_steps: float = Field(0.5, ge=0, le=1)
    """Share of the steps that fit the artifact; then it is frozen and the residual network comes in (the paper's)."""
    cosine_weight: float = Field(1.0, ge=0, le=100)
    """Weight of (1 - cosine similarity) beside the mean squared error (the paper's)."""


class DenoiseConfig(Config):
    """Stage 1: views of each image, and the split of their tokens into content and artifact."""

    images: int = Field(64, ge=2, le=1_000_000)
    """Training images that stage 1 runs on; with fewer at hand, all of them. Their pairs teach the denoiser."""
    probe_images: int = Field(16, ge=2, le=1_000_000)
    """Validation images that stage 1 runs on beside these; on them alone it is measured what denoising takes off."""
    views: int = Field(20, ge=4, le=4096)
    """Views an image: the whole image and views - 1 random crops (the paper: 1 + 768). Feature extraction costs in
    proportion; the fit needs few (README.md beside this file)."""
    crop_area: tuple[Share, Share] = (0.5, 1.0)
    """Least and greatest area of a crop, as a share of the image. The paper: 0.1 to 0.5, which enlarges what is seen;
    features that depend on scale, as a CNN's do, then differ from those of the whole image (README.md beside this)."""
    crop_aspect: tuple[Aspect, Aspect] = (0.75, 1.3333)
    """Least and greatest width / height of a crop in pixels, drawn evenly in its logarithm (the paper's)."""
    flip_probability: float = Field(0.5, ge=0, le=1)
    """Probability that a crop is mirrored left to right (the paper's)."""
    solver: Literal["least_squares", "neural_field"] = "least_squares"
    """`least_squares`: exact, a tenth of a second an image; `neural_field`: the paper's optimisation, to compare."""
    shared_artifact: bool = False
    """The artifact of each image is drawn to that of all images together instead of to 0 (`least_squares` only). Worth
    it with few views: set `artifact_ridge` to 16 with it."""
    nodes_per_patch: int = Field(2, ge=1, le=8)
    """r: the content field has r * h + 1 by r * w + 1 nodes; more nodes follow finer content and cost more time."""
    smoothness: tuple[Smoothness, ...] = Field((0.01, 0.1, 1.0), min_length=1, max_length=32)
    """Candidate weights lambda of the bending energy; of several, each image takes the best on its held-out views."""
    artifact_ridge: float = Field(1.0, ge=0, le=1e6)
    """mu: weight of |G|^2, in tokens: a position seen in V views has its artifact shrunk by about V / (V + mu). With
    `shared_artifact` it draws to the shared one, and 16 was best (README.md beside this file)."""
    robust_constant: float = Field(6.0, gt=0, le=1e6)
    """c: a token whose residual is c times the median one counts half. Small values throw good tokens away."""
    passes: int = Field(3, ge=1, le=20)
    """Fits of each image; each after the first weighs the tokens by the residuals of the one before; 1: not robust."""
    held_out: float = Field(0.2, ge=0, le=0.5)
    """Share of the views (at least one) that choose lambda and measure R^2. 0: none, for a single candidate."""
    neural_field: NeuralFieldConfig = NeuralFieldConfig()
    """For `solver: neural_field` alone."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop_area", "crop_aspect"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the least value {low} is above the greatest {high}")
        if self.shared_artifact and self.solver != "least_squares":
            raise ValueError(f"shared_artifact needs solver: least_squares, it is {self.solver}")
        if len(self.smoothness) > 1 and self.held_out == 0:
            raise ValueError(
                f"held_out is 0 but smoothness has {len(self.smoothness)} candidates: choosing needs held-out views"
            )
        return self

    def of_one_image(self) -> dict[str, Any]:
        """What the result of one image depends on, as JSON values: not how many there are, nor the other solver."""
        return self.model_dump(mode="json", exclude={"images", "probe_images"} | self._unused())

    def _unused(self) -> set[str]:
        if self.solver == "least_squares":
            return {"neural_field"}
        return {"nodes_per_patch", "smoothness", "artifact_ridge", "robust_constant", "passes", "shared_artifact"}


class DenoiserConfig(Config):
    """Stage 2: a transformer block that maps the raw tokens of a whole image to its clean ones."""

    epochs: int = Field(60, ge=1, le=100_000)
    """Most passes over the training pairs."""
    batch: int = Field(8, ge=1, le=4096)
    """Pairs a step."""
    learning_rate: float = Field(2e-3, gt=0, le=1)
    """Peak of AdamW's learning rate. The paper's 2e-4 * sqrt(batch / 256) is for thousands of pairs and long runs."""
    weight_decay: float = Field(1e-5, ge=0, le=10)
    """Decoupled weight decay (the paper's)."""
    warmup: float = Field(0.15, ge=0, lt=1)
    """Share of the steps with rising learning rate, before the cosine to 1e-6 (the paper's)."""
    cosine_weight: float = Field(1.0, ge=0, le=100)
    """Weight of (1 - cosine similarity) beside the mean squared error (the paper: 1)."""
    blocks: int = Field(1, ge=0, le=12)
    """Transformer blocks behind the position embedding (the paper: 1). 0: the embedding alone, which takes the mean
    artifact off and leaves all else of an image as it is."""
    heads: int = Field(0, ge=0, le=256)
    """Attention heads, a divisor of C. 0: the divisor of C nearest to C / 64, the fewer of two equally near."""
    mlp_ratio: float = Field(4.0, gt=0, le=16)
    """Hidden width of the block's MLP, in C (the paper's)."""
    validation_share: float = Field(0.2, gt=0, le=0.5)
    """Share of the images (at least one) that are left out of training and choose the epoch."""
    patience: int = Field(12, ge=1, le=100_000)
    """Epochs without a lower validation loss before training stops."""


def heads_for(channels: int, wanted: int) -> int:
    """Heads of the block: `wanted`, or for 0 the divisor of C nearest to C / 64 (C = 176: 2; C = 384: 6).

    Raises:
        UserError: `wanted` does not divide the channels.
    """
    if wanted == 0:
        divisors = [d for d in range(1, channels + 1) if channels % d == 0]
        return min(divisors, key=lambda d: (abs(d - channels / 64), d))
    if channels % wanted:
        raise UserError(
            f"denoiser: heads = {wanted} does not divide the backbone's {channels} channels; "
            "use a divisor, or 0 to have one chosen"
        )
    return wanted
