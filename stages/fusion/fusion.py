"""Rank-calibrated mean of several detectors.

A score becomes the normal quantile of its rank among the scores of good validation images: what is as rare on good
parts counts the same, whatever the detector's own scale. Between two validation scores it is interpolated; beyond the
last ones it goes on along a straight line, as steep as from the median to that end, so that defects, which nearly all
lie beyond, stay in order. Nothing but good validation images is used.

Maps are calibrated alike, on the pixels of validation maps, and averaged at the side of the largest.

Legend: n validation images; Q knots of a calibration; S side of the fused map.
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
"""Most knots of a calibration; of more scores, those of evenly spread quantiles are kept."""


def fit(
    scores: Mapping[str, NDArray[np.floating]], maps: Mapping[str, Iterable[NDArray[np.floating]]], map_pixels: int
) -> Fitted:
    """Calibrations of each detector, from good validation images alone.

    Args:
        scores: by detector, (n,) image scores.
        maps: by detector, the n maps, read once.
        map_pixels: pixels of each map that are used, evenly spread.

    Raises:
        UserError: no validation images.
    """
    arrays: dict[str, NDArray[Any]] = {}
    side = 0
    for name, values in scores.items():
        if not len(values):
            raise UserError(
                "fused: there are no good validation images to calibrate on; choose another data.fold, or set"
                " fused.detectors to []"
            )
        arrays[f"{name}.score"] = calibration(np.asarray(values, np.float64))
        pixels = []
        for plane in maps[name]:
            side = max(side, *plane.shape)
            flat = np.asarray(plane, np.float64).reshape(-1)
            pixels.append(flat[:: max(1, -(-flat.size // map_pixels))])
        arrays[f"{name}.map"] = calibration(np.concatenate(pixels))
    return Fitted(arrays, info={"detectors": list(scores), "side": side})


def fuse(fitted: Fitted, outputs: Mapping[str, ScoreMap]) -> ScoreMap:
    """One image, as each of the fitted detectors says: calibrated map (S, S) and score, means of theirs.

    Extras: `without_<detector>`, the score with that one left out, where there are two at least.
    """
    names: Sequence[str] = fitted.info["detectors"]
    scores = np.array([calibrated(np.array(outputs[n].image_score), fitted.arrays[f"{n}.score"]) for n in names])
    planes = [
        _resized(calibrated(outputs[n].anomaly_map, fitted.arrays[f"{n}.map"]), fitted.info["side"]) for n in names
    ]
    left_out = (
        {f"without_{name}": float((scores.sum() - scores[i]) / (len(names) - 1)) for i, name in enumerate(names)}
        if len(names) > 1
        else {}
    )
    plane = np.stack(planes).mean(axis=0, dtype=np.float64).astype(np.float32)
    return ScoreMap(plane, float(scores.mean()), extras=left_out)


def calibration(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Knots (2, Q) of the map from score to normal quantile: ascending scores, and the quantile of each.

    Equal scores share the mean of their ranks. The i-th of n has the quantile of (i - 0.5) / n.
    """
    found, counts = np.unique(values, return_counts=True)
    quantiles = ndtri((np.cumsum(counts) - counts / 2) / len(values))
    if len(found) > KNOTS:
        wanted = np.linspace(quantiles[0], quantiles[-1], KNOTS)
        kept = np.unique(np.searchsorted(quantiles, wanted).clip(max=len(found) - 1))
        found, quantiles = found[kept], quantiles[kept]
    return np.stack([found, quantiles])


def calibrated(values: NDArray[np.floating], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rising in the score but for rounding, whatever the knots; of any shape."""
    scores, quantiles = knots
    median = float(np.interp(0.0, quantiles, scores)) if len(scores) > 1 else float(scores[0])
    inside = np.interp(values, scores, quantiles)
    above = np.maximum(values - scores[-1], 0) * _slope(scores[-1] - median, quantiles[-1])
    below = np.maximum(scores[0] - values, 0) * _slope(median - scores[0], -quantiles[0])
    result: NDArray[np.float64] = inside + above - below
    return result


def _slope(width: float, rise: float) -> float:
    """Quantiles a unit of score from the median to an end; 1 where all validation scores are equal."""
    return rise / width if width > 0 and rise > 0 else 1.0


def _resized(plane: NDArray[np.float64], side: int) -> NDArray[np.float32]:
    """(s, s) -> (S, S), bilinear, pixel centres aligned; S is at least s."""
    return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR))
