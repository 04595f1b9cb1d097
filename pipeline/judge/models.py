"""The models of a bundle for one category: pixels in, score maps out, as the stages `features` to `fuse` give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.bundle.reader import Bundle
from pipeline.bundle.writer import model_part
from pipeline.judge.features import Extractor
from pipeline.stage_io.samples import imagenet_of
from stages.detectors.interface import DetectorConfig, ImageNetConfig
from stages.detectors.registry import detector as detector_named
from stages.fusion.fusion import fuse
from stages.fusion.members import FUSION
from stages.types import Extract, Samples, ScoreMap

OF_BACKBONE = frozenset({"raw", "clean", "attention"})
"""What of `Samples` needs the backbone."""
BUDGET, MOST = 512 * 2**20, 64
"""Bytes, and images: with more at once nothing is gained."""


class Models:
    """Loaded once, used chunk by chunk.

    Raises:
        UserError: a file of the bundle is missing or altered.
    """

    def __init__(self, bundle: Bundle, category: str, wanted: Sequence[str], device: str) -> None:
        """`wanted`: detectors, or `fused`, whose members then run too."""
        self._device = device
        self._fusion = bundle.fitted(model_part(category, FUSION)) if FUSION in wanted else None
        members = [member for name in wanted for member in bundle.members(category, name)]
        self.names = tuple(dict.fromkeys([*wanted, *members]))
        """What gets a score: the wanted ones, then members of the fusion."""
        self._fitted = {name: bundle.fitted(model_part(category, name)) for name in self.names if name != FUSION}
        self._configs = {name: deployed(bundle.params.detector(name)) for name in self._fitted}
        self._needs = {name: detector_named(name).needs(config) for name, config in self._configs.items()}
        needs = frozenset[str]().union(*self._needs.values())
        self._features = None
        if needs & OF_BACKBONE:
            self._features = Extractor(bundle.fitted, "clean" in needs, bundle.params.distill.epochs > 0, device)
        self._imagenet = self._extractors()
        self.sides = frozenset(config.input_side for config in self._configs.values())
        if self._features is not None:
            self.sides |= {self._features.backbone.image_side}

    @property
    def batch(self) -> int:
        """Images at once whose pixels, tokens and maps take about `BUDGET` bytes."""
        pixels = 2 * sum(3 * side**2 for side in self.sides)  # one chunk in use, the next being read
        maps = sum(8 * config.input_side**2 for config in self._configs.values())
        tokens = 0
        if self._features is not None:
            grid, channels = self._features.backbone.grid, self._features.backbone.channels
            tokens = 16 * grid[0] * grid[1] * channels  # in single and in half precision, raw and clean
        return max(1, min(MOST, BUDGET // (pixels + maps + tokens)))

    def judge(self, ids: Sequence[str], images: Mapping[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]:
        """What each of `names` says of B images; without pictures, which nobody looks at.

        Args:
            ids: digests of the B files.
            images: (B, S, S, 3) by each side S of `sides`.
        """
        features = {} if self._features is None else self._features.of(images[self._features.backbone.image_side])
        found: list[dict[str, ScoreMap]] = [{} for _ in ids]
        for name, config in self._configs.items():
            samples = Samples(
                ids=ids,
                images=images[config.input_side],
                imagenet=self._imagenet.get(name),
                **{kind: features.get(kind) for kind in self._needs[name] & OF_BACKBONE},
            )
            scored = detector_named(name).score(self._fitted[name], samples, config, self._device)
            for one, result in zip(found, scored, strict=True):
                one[name] = ScoreMap(np.asarray(result.anomaly_map, np.float32), float(result.image_score))
        if self._fusion is not None:
            for one in found:
                one[FUSION] = fuse(self._fusion, one)
        return found

    def at_most(self, images: int) -> None:
        """A GPU's memory does not do for more at once.

        A batch of another size goes through other kernels: what an image gets may differ in the last bits from then on.
        """
        if self._features is not None:
            self._features.at_most(images)
        if self._device != "cpu":
            self._imagenet = self._extractors(images)

    def _extractors(self, most: int | None = None) -> dict[str, Extract]:
        """ImageNet CNNs by detector; those that two detectors share are loaded once."""
        loaded: dict[tuple[str, int], Extract] = {}
        found = {}
        for name, config in self._configs.items():
            if not isinstance(config, ImageNetConfig) or "imagenet" not in self._needs[name]:
                continue
            key = (config.network, config.patch)
            if key not in loaded:
                extract = imagenet_of(config, self._needs[name], self._device, most)
                assert extract is not None
                loaded[key] = extract
            found[name] = loaded[key]
        return found


def deployed(config: DetectorConfig) -> DetectorConfig:
    """The configuration without what is computed only to be compared with what is deployed: the score is the same."""
    compared = {"compare_features", "compare_masks"} & type(config).model_fields.keys()
    return config.model_copy(update=dict.fromkeys(compared, False))
