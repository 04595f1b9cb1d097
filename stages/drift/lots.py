"""Whether new images differ from the training images only as much as lots differ from one another.

Images of one lot (a group: a delivery, a day, a module) are alike, so a whole new lot always differs from the training
images. It is a drift only if it differs more than the lots of training do. For each test, the effect of each lot
against all other lots is computed, and the new lots are ranked among them. One new lot of the same kind as G lots of
training is the most different of all by chance once in G + 1.

Legend: N training images; M new ones; G lots of training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from stages.drift.descriptors import Descriptors
from stages.drift.effects import feature_effect, mean_effect

LEAST_IMAGES = 3
"""Lots of training with fewer images are not compared."""
LEAST_LOTS = 2


@dataclass(frozen=True)
class Lots:
    """How the new lots compare with those of training."""

    training: int
    """Lots of training with at least `LEAST_IMAGES` images."""
    new: int
    """Lots of the new images that training does not have."""
    explained: frozenset[str]
    """Names of the tests in which no new lot differs more than some lot of training does."""

    def words(self, found: frozenset[str]) -> str:
        """What the lots say of the tests that found a difference."""
        lots = f"the new images are of {self.new} lot{'s' if self.new > 1 else ''} that training does not have"
        if self.training < LEAST_LOTS:
            return f"{lots}, and training has no {LEAST_LOTS} lots to compare: this may be the lot, not a drift"
        if more := sorted(found - self.explained):
            return f"{lots}, and differ more than the {self.training} lots of training do ({', '.join(more)})"
        return f"{lots}, and differ no more than the {self.training} lots of training do from one another"


def compare_lots(training: Descriptors, new: Descriptors, neighbours: int) -> Lots | None:
    """Compare the lots that training does not have with those that it has. None if there is no such lot.

    Args:
        neighbours: an image's distance is its mean distance to this many nearest images of other lots.
    """
    if training.lots is None or new.lots is None:
        return None
    is_unknown = ~np.isin(new.lots, training.lots)
    unknown = np.unique(new.lots[is_unknown])
    names, counts = np.unique(training.lots, return_counts=True)
    compared = names[counts >= LEAST_IMAGES]
    if not len(unknown):
        return None
    if len(compared) < LEAST_LOTS:
        return Lots(len(compared), len(unknown), frozenset())
    far, new_far = _distances_to_other_lots(training, new, neighbours)
    known_effects = [_effects(training, far, training, far, training.lots == lot) for lot in compared]
    new_effects = [_effects(training, far, new, new_far, new.lots == lot) for lot in unknown]
    limit = {test: max(effects[test] for effects in known_effects) for test in known_effects[0]}
    explained = {test for test, most in limit.items() if all(effects[test] <= most for effects in new_effects)}
    return Lots(len(compared), len(unknown), frozenset(explained))


def _distances_to_other_lots(
    training: Descriptors, new: Descriptors, neighbours: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) and (M,) mean distance of each image to its nearest training images of other lots."""
    assert training.lots is not None and new.lots is not None
    spread = training.features.std(0, dtype=np.float64)
    scale = np.where(spread > 0, spread, np.inf)
    memory = training.features / scale
    result = []
    for images in (training, new):
        distances = cdist(images.features / scale, memory)
        distances[images.lots[:, None] == training.lots[None]] = np.inf  # type: ignore[index]
        nearest = np.sort(distances, axis=1)[:, : min(neighbours, len(training) - 1)]
        result.append(np.where(np.isinf(nearest), np.nan, nearest))
    return np.nanmean(result[0], axis=1), np.nanmean(result[1], axis=1)


def _effects(
    training: Descriptors,
    far: NDArray[np.float64],
    images: Descriptors,
    images_far: NDArray[np.float64],
    of_lot: NDArray[np.bool_],
) -> dict[str, float]:
    """Size of each effect of a lot, against the training images that are not of it."""
    rest = ~of_lot if images is training else np.ones(len(training), bool)
    effects = {
        "features": feature_effect(training.features[rest], images.features[of_lot]),
        "distance": mean_effect(far[rest], images_far[of_lot]),
        "brightness": mean_effect(training.brightness[rest], images.brightness[of_lot]),
        "sharpness": mean_effect(training.sharpness[rest], images.sharpness[of_lot]),
    }
    return {test: float("inf") if effect is None else abs(effect) for test, effect in effects.items()}
