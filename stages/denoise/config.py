"""Parameters of DVT: `DenoiseConfig` (step 1, image by image) and `DenoiserConfig` (step 2, the network)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stages.types import Config, UserError

Share = Annotated[float, Field(gt=0, le=1)]
Aspect = Annotated[float, Field(ge=0.1, le=10)]
Smoothness = Annotated[float, Field(ge=1e-6, le=1e6)]


class NeuralFieldConfig(Config):
    """The paper's optimisation of one image by gradient steps: the slow reference for least squares.

    The defaults match the capacity to about 4,000 tokens (20 views of 14 x 14): on views that no fit saw, 4 cells per
    patch already lose to them (R^2 0.64 against 0.71). Cells are counted along a side.
    """

    steps: int = Field(1000, ge=10, le=1_000_000)
    """Adam steps per image (paper: 25,000).

    From 4,000 steps on the content field learns the noise of 20 views."""
    batch: int = Field(2048, ge=1, le=1_048_576)
    """Tokens per step, sampled evenly from all views (the paper's)."""
    learning_rate: float = Field(1e-2, gt=0, le=1)
    """Peak learning rate (the paper's).

    It rises over a tenth of the steps, then falls to a tenth of the peak along a cosine."""
    weight_decay: float = Field(2e-6, ge=0, le=1)
    """Adam's weight decay on all parameters (paper: 1e-5, which lost 0.004 of R^2)."""
    levels: int = Field(6, ge=1, le=32)
    """Grids of growing resolution that make up the content field (paper: 16)."""
    level_features: int = Field(8, ge=1, le=64)
    """Features per node of each level (the paper's)."""
    coarsest: float = Field(0.15, gt=0, le=64)
    """Cells per patch of the first level.

    The paper has 16 per image, which at 37 patches are 0.43."""
    finest: float = Field(1.5, gt=0, le=64)
    """Cells per patch of the last level.

    The paper has 1,024 per image, which at 37 patches are 28."""
    table_log2: int = Field(16, ge=1, le=24)
    """A level with more than 2^this nodes is hashed into 2^this rows (paper: 20)."""
    hidden: float = Field(1.0, gt=0, le=8)
    """Hidden units of the content field's MLP, as a share of the channels (paper: 0.5)."""
    residual_hidden: float = Field(0.25, gt=0, le=8)
    """Hidden units of the residual network's two layers, as a share of the channels.

    The value is the paper's."""
    artifact_steps: float = Field(0.5, ge=0, le=1)
    """Share of the steps that fit the artifact; then it is frozen (the paper's).

    From then on the residual network is fitted too."""
    cosine_weight: float = Field(1.0, ge=0, le=100)
    """Loss weight of (1 - cosine similarity), beside the mean squared error (the paper's)."""


class DenoiseConfig(Config):
    """DVT step 1: views of each image; their tokens are split into content and artifact."""

    images: int = Field(64, ge=2, le=1_000_000)
    """Training images that step 1 runs on, at most. They train the denoiser."""
    probe_images: int = Field(16, ge=2, le=1_000_000)
    """Validation images that step 1 also runs on, to measure what denoising changed."""
    views: int = Field(20, ge=4, le=4096)
    """Views per image: the whole image and views - 1 random crops (paper: 1 + 768).

    The cost of feature extraction is proportional; the fit needs few views (stages/denoise/README.md)."""
    crop_area: tuple[Share, Share] = (0.5, 1.0)
    """Smallest and largest area of a crop, as a share of the image.

    The paper has 0.1 to 0.5, which enlarges what is seen. Features that depend on scale, as a CNN's do, then differ
    from those of the whole image (stages/denoise/README.md)."""
    crop_aspect: tuple[Aspect, Aspect] = (0.75, 1.3333)
    """Smallest and largest width / height of a crop in pixels (the paper's).

    Sampled evenly in the logarithm."""
    flip_probability: float = Field(0.5, ge=0, le=1)
    """Probability that a crop is mirrored left to right (the paper's)."""
    solver: Literal["least_squares", "neural_field"] = "least_squares"
    """`least_squares`: exact and fast. `neural_field`: the paper's, for comparison.

    `least_squares` takes a tenth of a second per image; `neural_field` is gradient descent."""
    shared_artifact: bool = False
    """Shrink each image's artifact toward the artifact that all images share, not toward zero. Then set
    `artifact_ridge: 16`.

    Useful with few views; for `least_squares` only."""
    nodes_per_patch: int = Field(2, ge=1, le=8)
    """Nodes of the content field per patch, along each side.

    r: the field has (r h + 1) x (r w + 1) nodes on a grid of h x w patches. More nodes follow finer content and
    take more time."""
    smoothness: tuple[Smoothness, ...] = Field((0.01, 0.1, 1.0), min_length=1, max_length=32)
    """Candidates for lambda, the weight of the bending energy; held-out views choose.

    Each image uses the candidate that is best on its own held-out views."""
    artifact_ridge: float = Field(1.0, ge=0, le=1e6)
    """Ridge penalty. With V views, about V / (V + value) of an artifact remains.

    mu; larger values shrink the artifact more. V is the number of views that see a position. With `shared_artifact` the
    artifact is shrunk toward the shared artifact, and 16 was best (stages/denoise/README.md)."""
    robust_constant: float = Field(6.0, gt=0, le=1e6)
    """c: a token whose residual is c times the median counts half.

    Small values discard good tokens."""
    passes: int = Field(3, ge=1, le=20)
    """Fits per image, each weighted by the residuals of the fit before. 1: not robust."""
    held_out: float = Field(0.2, ge=0, le=0.5)
    """Share of the views (at least one) that choose lambda and measure R^2.

    0: no views are held out, which needs a single candidate in `smoothness`."""
    neural_field: NeuralFieldConfig = NeuralFieldConfig()
    """For `solver: neural_field` only."""

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

    def parameters_of_one_image(self) -> dict[str, Any]:
        """The parameters that the result of one image depends on, as JSON values: without the numbers of images, and
        without the other solver's parameters."""
        return self.model_dump(mode="json", exclude={"images", "probe_images"} | self._unused())

    def _unused(self) -> set[str]:
        if self.solver == "least_squares":
            return {"neural_field"}
        return {"nodes_per_patch", "smoothness", "artifact_ridge", "robust_constant", "passes", "shared_artifact"}


class DenoiserConfig(Config):
    """DVT step 2: a transformer block that maps an image's raw tokens to clean tokens."""

    epochs: int = Field(60, ge=1, le=100_000)
    """Largest number of passes over the training pairs."""
    batch: int = Field(8, ge=1, le=4096)
    """Pairs per training step."""
    learning_rate: float = Field(2e-3, gt=0, le=1)
    """Peak learning rate of AdamW.

    The paper's 2e-4 * sqrt(batch / 256) is for thousands of pairs and long runs."""
    weight_decay: float = Field(1e-5, ge=0, le=10)
    """Decoupled weight decay (the paper's)."""
    warmup: float = Field(0.15, ge=0, lt=1)
    """Share of the steps in which the learning rate rises (the paper's).

    Then it falls to 1e-6 along a cosine."""
    cosine_weight: float = Field(1.0, ge=0, le=100)
    """Loss weight of (1 - cosine similarity), beside the mean squared error (paper: 1)."""
    blocks: int = Field(1, ge=0, le=12)
    """Transformer blocks (paper: 1). 0: only the mean artifact is subtracted.

    They follow the position embedding. The embedding alone subtracts the mean artifact and leaves everything else of an
    image as it is."""
    heads: int = Field(0, ge=0, le=256)
    """Attention heads, a divisor of the channels C. 0: the divisor nearest to C / 64.

    Of two equally near divisors, the smaller."""
    mlp_ratio: float = Field(4.0, gt=0, le=16)
    """Hidden units of the block's MLP over its channels (the paper's)."""
    validation_share: float = Field(0.2, gt=0, le=0.5)
    """Share of the images (at least one) that are not trained on and choose the epoch."""
    patience: int = Field(12, ge=1, le=100_000)
    """Training stops after this many epochs without a lower validation loss."""


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
