"""The models of a bundle for one category: pixels in, score maps out, as the stages `features` to `fuse` give them."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.layout import model_part
from pipeline.bundle.reader import Bundle
from stages.detectors.interface import DetectorConfig, ImageNetConfig
from stages.detectors.registry import detector as detector_named
from stages.fusion.fusion import fuse
from stages.fusion.members import FUSION
from stages.types import Extract, Samples, ScoreMap

if TYPE_CHECKING:
    from pipeline.judge.features import FeatureExtractor

BACKBONE_FEATURES = frozenset({"raw", "clean", "attention"})
"""The fields of `Samples` that need the backbone."""
BATCH_BYTES, MAX_BATCH = 512 * 2**20, 64
"""Memory of a batch, and its largest number of images. Larger batches are not faster."""


class Models:
    """Loaded once, used for every batch.

    Raises:
        UserError: a file of the bundle is missing or altered.
    """

    def __init__(self, bundle: Bundle, category: str, wanted: Sequence[str], device: str) -> None:
        """
        Args:
            wanted: detectors, or `fused`, whose members are then run too.
            device: `cpu`, `cuda`, or `auto`: a GPU if there is one and a detector can use it.
        """
        self._fusion = bundle.fitted(model_part(category, FUSION)) if FUSION in wanted else None
        members = [member for name in wanted for member in bundle.members(category, name)]
        self.names = tuple(dict.fromkeys([*wanted, *members]))
        """What gives a score: the wanted detectors, then the members of the fusion."""
        self._fitted = {name: bundle.fitted(model_part(category, name)) for name in self.names if name != FUSION}
        self._configs = {name: without_comparisons(bundle.params.detector(name)) for name in self._fitted}
        self._needs = {name: detector_named(name).needs(config) for name, config in self._configs.items()}
        needs = frozenset[str]().union(*self._needs.values())
        self._device = _available_device(needs) if device == "auto" else device
        self._features: FeatureExtractor | None = None
        if needs & BACKBONE_FEATURES:
            from pipeline.judge.features import FeatureExtractor  # loads timm

            distilled = bundle.params.distill.epochs > 0
            self._features = FeatureExtractor(bundle.fitted, "clean" in needs, distilled, self._device)
        self._imagenet = self._load_imagenet()
        self.sides = frozenset(config.input_side for config in self._configs.values())
        """Sides in pixels of the squares that `predict` takes."""
        if self._features is not None:
            self.sides |= {self._features.backbone.image_side}

    @property
    def batch(self) -> int:
        """Number of images whose pixels, tokens and maps take about BATCH_BYTES; at most MAX_BATCH."""
        pixels = 2 * sum(3 * side**2 for side in self.sides)  # one chunk is in use while the next is read
        maps = sum(8 * config.input_side**2 for config in self._configs.values())
        tokens = 0
        if self._features is not None:
            grid, channels = self._features.backbone.grid, self._features.backbone.channels
            tokens = 16 * grid[0] * grid[1] * channels  # single and half precision, raw and clean
        return max(1, min(MAX_BATCH, BATCH_BYTES // (pixels + maps + tokens)))

    def predict(self, ids: Sequence[str], images: Mapping[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]:
        """Score B images with each of `names`. Pictures (masks, restorations) are left out.

        Args:
            ids: sha256 of the B files.
            images: side S -> pixels (B, S, S, 3), for each S of `sides`.

        Returns:
            for each image, score maps by detector.
        """
        features = {} if self._features is None else self._features.extract(images[self._features.backbone.image_side])
        maps: list[dict[str, ScoreMap]] = [{} for _ in ids]
        for name, config in self._configs.items():
            samples = Samples(
                ids=ids,
                images=images[config.input_side],
                imagenet=self._imagenet.get(name),
                **{kind: features.get(kind) for kind in self._needs[name] & BACKBONE_FEATURES},
            )
            scored = detector_named(name).score(self._fitted[name], samples, config, self._device)
            for by_detector, result in zip(maps, scored, strict=True):
                anomaly_map = np.asarray(result.anomaly_map, np.float32)
                by_detector[name] = ScoreMap(anomaly_map, float(result.image_score))
        if self._fusion is not None:
            for by_detector in maps:
                by_detector[FUSION] = fuse(self._fusion, by_detector)
        return maps

    def limit_batch(self, images: int) -> None:
        """Pass at most so many images through a network together, because memory does not suffice for more.

        Batches of another size may use other GPU kernels, so that scores may differ in the last bits from then on.
        """
        if self._features is not None:
            self._features.limit_batch(images)
        if self._device != "cpu":
            self._imagenet = self._load_imagenet(images)

    def _load_imagenet(self, max_batch: int | None = None) -> dict[str, Extract]:
        """ImageNet CNNs by detector. A network that two detectors share is loaded once."""
        loaded: dict[tuple[str, int], Extract] = {}
        by_detector = {}
        for name, config in self._configs.items():
            if not isinstance(config, ImageNetConfig) or "imagenet" not in self._needs[name]:
                continue
            key = (config.network, config.patch)
            if key not in loaded:
                from pipeline.stage_io.samples import imagenet_of  # loads zarr

                extract = imagenet_of(config, self._needs[name], self._device, max_batch)
                assert extract is not None
                loaded[key] = extract
            by_detector[name] = loaded[key]
        return by_detector


def _available_device(needs: Collection[str]) -> str:
    """`cuda` if there is a GPU and a detector can use it. Asking for a GPU loads torch, which takes two seconds.

    Args:
        needs: the fields of `Samples` that the detectors read; networks compute them.
    """
    if not needs and "torch" not in sys.modules:  # no module of a detector has loaded it
        return "cpu"
    from stages.torch_setup import device_named

    return device_named("auto")


def without_comparisons(config: DetectorConfig) -> DetectorConfig:
    """A configuration that computes the deployed score only, not the variants that are compared with it."""
    comparisons = {"compare_features", "compare_masks"} & type(config).model_fields.keys()
    return config.model_copy(update=dict.fromkeys(comparisons, False))
