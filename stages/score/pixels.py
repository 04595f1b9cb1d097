"""Pixel AUROC, AUPRO and mask coverage, one image at a time, in memory that does not grow with the number of images.

Map values are counted in 2^20 bins in the order of float32 numbers (the top 20 of 32 bits: sign, exponent and 11 bits
of mantissa). So the range of values need not be known beforehand, and each image is read once. Values in the same bin,
at most 0.05 % apart, count as tied. Different float16 values are always in different bins.

Legend: S side of the common square in pixels; K bins.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from stages.score.metrics import auroc

_BITS = 20
_EIGHT = np.ones((3, 3), dtype=bool)
"""The neighbours of a pixel in an 8-connected region."""


@dataclass
class PixelCounts:
    """Three histograms over K bins of map values, lowest first, of all images added so far."""

    side: int
    """S."""
    good: NDArray[np.float64]
    """(K,) pixels without defect."""
    bad: NDArray[np.float64]
    """(K,) defective pixels."""
    overlap: NDArray[np.float64]
    """(K,) pixels of each defective region of the masks as they are given, divided by its area, summed over regions.
    Each region weighs 1."""
    regions: int = 0
    """Number of defective regions."""
    masks: int = 0
    """Number of defect images with a mask."""

    @classmethod
    def empty(cls, side: int) -> PixelCounts:
        good, bad, overlap = np.zeros((3, 1 << _BITS))
        return cls(side, good, bad, overlap)

    def add(self, anomaly_map: NDArray[np.floating], mask: NDArray[np.bool_] | None) -> None:
        """Add one image.

        Args:
            anomaly_map: (H', W'), any size.
            mask: (H, W), any size; None: no defective pixels.
        """
        bins = bins_of(resize_map(anomaly_map, self.side))  # (S, S)
        if mask is None or not mask.any():
            self.good += np.bincount(bins.ravel(), minlength=len(self.good))
            return
        truth = resize_mask(mask, self.side)  # (S, S)
        self.good += np.bincount(bins[~truth], minlength=len(self.good))
        self.bad += np.bincount(bins[truth], minlength=len(self.bad))
        weights, count = region_weights(mask, self.side)
        self.overlap += np.bincount(bins.ravel(), weights=weights.ravel(), minlength=len(self.overlap))
        self.regions += count
        self.masks += 1

    def auroc(self) -> float | None:
        """Area under the pixel ROC curve; None without good or without defective pixels."""
        if not self.good.any() or not self.bad.any():
            return None
        return float(auroc(np.cumsum(self.bad[::-1]), np.cumsum(self.good[::-1])))

    def aupro(self, max_fpr: float) -> float | None:
        """Area under the curve of per-region overlap against pixel FPR up to `max_fpr`, divided by `max_fpr`.

        Bergmann et al., IJCV 2021. The curve is linear between thresholds, and up to the limit. None without good
        pixels or without regions.
        """
        if not self.good.any() or not self.regions:
            return None
        used = np.flatnonzero(self.good + self.bad)[::-1]
        fpr = np.concatenate([[0.0], np.cumsum(self.good[used]) / self.good.sum()])
        pro = np.concatenate([[0.0], np.cumsum(self.overlap[used]) / self.regions])
        end = int(np.searchsorted(fpr, max_fpr, side="right"))  # fpr[:end] <= max_fpr
        if end < len(fpr):
            share = (max_fpr - fpr[end - 1]) / (fpr[end] - fpr[end - 1])
            fpr = np.append(fpr[:end], max_fpr)
            pro = np.append(pro[:end], pro[end - 1] + share * (pro[end] - pro[end - 1]))
        return float(np.trapezoid(pro, fpr) / max_fpr)


def region_weights(mask: NDArray[np.bool_], side: int) -> tuple[NDArray[np.float64], int]:
    """How much of the defective regions each pixel of a smaller square holds, and the number of regions.

    Regions are the 8-connected ones of the mask as it is given. Two regions that lie a few pixels apart would be one
    after the mask is resized, and small regions would weigh less.

    Args:
        mask: (H, W), not empty. It is enlarged first if it is smaller than the square.
        side: S.

    Returns:
        (S, S), whose sum is the number of regions: of each region, the share of its pixels that lie there.
    """
    larger = [max(1, -(-side // length)) for length in mask.shape]
    mask = mask.repeat(larger[0], axis=0).repeat(larger[1], axis=1)
    labelled, count = ndimage.label(mask, structure=_EIGHT)
    rows, columns = np.nonzero(mask)
    region = labelled[rows, columns]
    place = (rows * side // mask.shape[0]) * side + columns * side // mask.shape[1]
    weights = np.bincount(place, weights=1 / np.bincount(region)[region], minlength=side * side)
    return weights.astype(np.float64).reshape(side, side), int(count)


def bins_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The bin of each value, 0 to 2^20 - 1, higher for higher values; -0.0 and 0.0 share a bin."""
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)
    # Flipping the sign bit of positive floats, and all bits of negative floats, gives unsigned numbers in their order.
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> (32 - _BITS)).astype(np.int64)


def resize_map(anomaly_map: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """Resize a map (H, W) to (side, side): bilinear, with averages over the area where it shrinks."""
    picture = Image.fromarray(np.ascontiguousarray(anomaly_map, dtype=np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def resize_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Resize a mask (H, W) to (side, side): a pixel is defective if at least half of its area is.

    A region that would vanish by this rule, such as a scratch thinner than half a pixel, keeps all pixels it touches.
    """
    picture = Image.fromarray(np.ascontiguousarray(mask, dtype=np.float32))
    area = np.asarray(picture.resize((side, side), Image.Resampling.BOX))
    kept = area >= 0.5
    touched, _ = ndimage.label(area > 0, structure=_EIGHT)
    lost = ~np.isin(touched, touched[kept]) & (touched > 0)
    return kept | lost


def mask_coverage(
    saliency: Iterable[NDArray[np.floating]], truth: Iterable[NDArray[np.bool_]], area: float
) -> float | None:
    """Share of all true defect pixels that lie in masks of equal area: the most salient pixels of each image.

    If pixels tie at the limit of the area, they count with the share of them that fits. So a binary mask may be used
    as saliency: a smaller mask is filled up, a larger mask is thinned out, as if at random. A saliency of another size
    is resized to that of its truth by the nearest pixel.

    Args:
        saliency: (H', W') of each image.
        truth: (H, W) of each image, true for defect pixels. An image without defect pixels does not count.
        area: share of the pixels in each mask, 0 to 1.

    Returns:
        0 to 1; None if no image has defect pixels.
    """
    covered, total = 0.0, 0
    for values, defect in zip(saliency, truth, strict=True):
        rows, columns = (np.arange(n) * m // n for n, m in zip(defect.shape, values.shape, strict=True))
        resized = np.asarray(values, dtype=np.float64)[np.ix_(rows, columns)]
        pixels = area * resized.size
        limit = np.sort(resized, axis=None)[::-1][min(int(pixels), resized.size - 1)]
        above, tied = resized > limit, resized == limit
        share = (pixels - above.sum()) / tied.sum()
        covered += float((above & defect).sum() + share * (tied & defect).sum())
        total += int(defect.sum())
    return covered / total if total else None
