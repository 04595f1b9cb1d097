"""The fusion: the mean of several detectors after rank normalization.

Rank normalization replaces a score by the normal quantile of its rank among the scores of good validation images.
Scores that are equally rare on good parts then count the same, whatever the detector's own scale. Between two
validation scores the quantile is interpolated. Beyond the smallest and the largest it continues along a straight line,
as steep as from the median to that end: nearly all defects have scores beyond the largest, and must stay in order. Only
good validation images are used.

A validation image that takes part in setting the threshold is ranked among the other validation images
(`held_out_quantiles`).

Maps are normalized in the same way on the pixels of validation maps, and averaged at the side of the largest map.

Legend: n validation images; Q knots of a rank normalization; s side of a member's map; S side of the fused map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.special import ndtri

from stages.types import Fitted, ScoreMap, UserError

KNOTS = 512
"""Largest number of knots. Of more scores, those at evenly spread quantiles are kept."""


def fit(
    scores: Mapping[str, NDArray[np.floating]], maps: Mapping[str, Iterable[NDArray[np.floating]]], map_pixels: int
) -> Fitted:
    """Fit the rank normalization of each detector's scores and maps to good validation images.

    Args:
        scores: by detector: (n,) image scores.
        maps: by detector: the n maps, read once.
        map_pixels: number of pixels of each map that are used, evenly spread.

    Raises:
        UserError: there are no validation images.
    """
    arrays: dict[str, NDArray[Any]] = {}
    side = 0
    for name, values in scores.items():
        if not len(values):
            raise UserError(
                "fused: there are no good validation images for the rank normalization; choose another data.fold, or"
                " set fused.detectors to []"
            )
        arrays[f"{name}.score"] = fit_knots(np.asarray(values, np.float64))
        pixels = []
        for plane in maps[name]:
            side = max(side, *plane.shape)
            flat = np.asarray(plane, np.float64).reshape(-1)
            pixels.append(flat[:: max(1, -(-flat.size // map_pixels))])
        arrays[f"{name}.map"] = fit_knots(np.concatenate(pixels))
    return Fitted(arrays, info={"detectors": list(scores), "side": side})


def fuse(fitted: Fitted, outputs: Mapping[str, ScoreMap]) -> ScoreMap:
    """Fuse the results of one image: the means of the members' normalized maps (S, S) and scores.

    Extras: `without_<detector>`, the score without that member, if there are at least two members.

    Args:
        outputs: the result of each member.
    """
    names: Sequence[str] = fitted.info["detectors"]
    quantiles = {n: float(normalize(np.array(outputs[n].image_score), fitted.arrays[f"{n}.score"])) for n in names}
    planes = [
        _enlarge(normalize(outputs[n].anomaly_map, fitted.arrays[f"{n}.map"]), fitted.info["side"]) for n in names
    ]
    plane = np.stack(planes).mean(axis=0, dtype=np.float64).astype(np.float32)
    score, without_member = mean_scores(quantiles)
    return ScoreMap(plane, score, extras=without_member)


def held_out_quantiles(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """(n,) scores of validation images -> (n,) normal quantiles, each by the rank normalization fitted to the others.

    A threshold is set on the fused scores of these images. If an image's own score took part in the normalization,
    fused validation scores would lie closer together than those of new images, and more good parts would be rejected
    than promised. Of a single image the quantile is 0.
    """
    values = np.asarray(scores, np.float64)
    if len(values) < 2:
        return np.zeros(len(values))
    return np.array([normalize(value, fit_knots(np.delete(values, i))) for i, value in enumerate(values)])


def mean_scores(quantiles: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """The fused score of an image, and `without_<detector>`, the score without that member, if there are two or more.

    Args:
        quantiles: normal quantile of each member's score.
    """
    values = np.array(list(quantiles.values()))
    if len(values) == 1:
        return float(values[0]), {}
    without = {f"without_{name}": float((values.sum() - own) / (len(values) - 1)) for name, own in quantiles.items()}
    return float(values.mean()), without


def fit_knots(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The knots (2, Q) of a rank normalization: ascending scores, and the normal quantile of each.

    Equal scores share the mean of their ranks. The i-th of n scores has the quantile of (i - 0.5) / n.
    """
    scores, counts = np.unique(values, return_counts=True)
    quantiles = ndtri((np.cumsum(counts) - counts / 2) / len(values))
    if len(scores) > KNOTS:
        spaced = np.linspace(quantiles[0], quantiles[-1], KNOTS)
        kept = np.unique(np.searchsorted(quantiles, spaced).clip(max=len(scores) - 1))
        scores, quantiles = scores[kept], quantiles[kept]
    return np.stack([scores, quantiles])


def normalize(values: NDArray[np.floating], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of any shape -> normal quantiles of the same shape. The function rises, except for rounding."""
    scores, quantiles = knots
    median = float(np.interp(0.0, quantiles, scores)) if len(scores) > 1 else float(scores[0])
    inside = np.interp(values, scores, quantiles)
    above = np.maximum(values - scores[-1], 0) * _slope(scores[-1] - median, quantiles[-1])
    below = np.maximum(scores[0] - values, 0) * _slope(median - scores[0], -quantiles[0])
    result: NDArray[np.float64] = inside + above - below
    return result


def _slope(width: float, rise: float) -> float:
    """Quantiles per unit of score, from the median to an end; 1 if all validation scores are equal."""
    return rise / width if width > 0 and rise > 0 else 1.0


def _enlarge(plane: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """(s, s) -> (S, S), bilinear, pixel centres aligned; S is at least s."""
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
