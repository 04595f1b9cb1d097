"""A detector's result for an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.stage_io.dependencies import code_of_item
from pipeline.stage_io.samples import upstream
from stages.detectors.interface import Detector, DetectorConfig
from stages.item_cache import Item, item_key
from stages.types import Fitted, Samples, ScoreMap


@dataclass(frozen=True)
class Scoring:
    """A fitted detector that is applied to images."""

    name: str
    detector: Detector
    config: DetectorConfig
    fitted: Fitted
    digest: str
    """Digest of the fitted model."""
    device: str

    def keys(self, digests: Iterable[str]) -> list[str]:
        """Item keys of images. The device counts, since its last bits differ; that of a CPU goes without saying."""
        read = upstream(self.detector.needs(self.config))
        parameters = {"detector": self.name, "config": self.config.model_dump(mode="json"), "upstream": read}
        if self.device != "cpu":
            parameters["device"] = self.device
        code = code_of_item(__name__, self.name)
        return [item_key(image=sha, weights=self.digest, parameters=parameters, code=code) for sha in digests]

    def items(self, samples: Samples, rows: Sequence[int]) -> Iterator[Item]:
        """The items of some of the samples."""
        for scored in self.detector.score(self.fitted, samples.take(rows), self.config, self.device):
            yield item_of(scored)


def item_of(scored: ScoreMap) -> Item:
    """What is stored of an image's result."""
    return {
        "maps": np.asarray(scored.anomaly_map, np.float32),
        "image_score": np.asarray(scored.image_score, np.float64),
        **{f"extra_{key}": np.asarray(value, np.float64) for key, value in scored.extras.items()},
        **{f"picture_{key}": np.asarray(value) for key, value in scored.pictures.items()},
    }
