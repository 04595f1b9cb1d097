"""Pixel AUROC, AUPRO and mask coverage, one image at a time, in memory that does not grow with the images.

Map values are sorted into 2^20 bins that follow the order of float32 numbers (the top 20 of 32 bits: sign, exponent and
11 bits of mantissa), so no range needs to be known beforehand and each image is read once. Values within the same bin,
that is within 0.05 % of each other, count as tied; whatever float16 can hold is told apart exactly.

Legend: S side of the common square; K bins.
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
_EIGHT = np.ones((3, 3), dtype=bool)  # neighbours of a pixel in an 8-connected region


@dataclass
class PixelCounts:
    """What has been seen so far: three histograms over K bins of map value, lowest first."""

    side: int
    """S."""
    good: NDArray[np.float64]
    """(K,) pixels without defect."""
    bad: NDArray[np.float64]
    """(K,) defective pixels."""
    overlap: NDArray[np.float64]
    """(K,) each region's pixels over its area, summed over regions: a region weighs 1, whatever its size."""
    regions: int = 0
    masks: int = 0
    """Defect images that had a mask."""

    @classmethod
    def empty(cls, side: int) -> PixelCounts:
        good, bad, overlap = np.zeros((3, 1 << _BITS))
        return cls(side, good, bad, overlap)

    def add(self, anomaly_map: NDArray[np.floating], mask: NDArray[np.bool_] | None) -> None:
        """Count one image. `anomaly_map` (H', W') and `mask` (H, W), of any sizes; None means no defect anywhere."""
        bins = bins_of(resized_map(anomaly_map, self.side))  # (S, S)
        if mask is None or not mask.any():
            self.good += np.bincount(bins.ravel(), minlength=len(self.good))
            return
        truth = resized_mask(mask, self.side)  # (S, S)
        self.good += np.bincount(bins[~truth], minlength=len(self.good))
        self.bad += np.bincount(bins[truth], minlength=len(self.bad))
        labelled, count = ndimage.label(truth, structure=_EIGHT)
        region = labelled[truth]
        area = np.bincount(region)
        self.overlap += np.bincount(bins[truth], weights=1 / area[region], minlength=len(self.overlap))
        self.regions += count
        self.masks += 1

    def auroc(self) -> float | None:
        """Area under the pixel ROC curve; None without good or without defective pixels."""
        if not self.good.any() or not self.bad.any():
            return None
        return float(auroc(np.cumsum(self.bad[::-1]), np.cumsum(self.good[::-1])))

    def aupro(self, max_fpr: float) -> float | None:
        """Area under per-region overlap against pixel FPR, up to `max_fpr`, over `max_fpr`.

        Bergmann et al., IJCV 2021. Linear between thresholds, also onto the limit. None without good pixels or regions.
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


def bins_of(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bin of each value, 0 .. 2^20 - 1, higher for higher values; -0.0 and 0.0 share one."""
    bits = (values.astype(np.float32) + np.float32(0)).view(np.uint32)
    # order of floats as unsigned numbers: flip the sign bit of positive ones, all bits of negative ones
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> (32 - _BITS)).astype(np.int64)


def resized_map(anomaly_map: NDArray[np.floating], side: int) -> NDArray[np.float32]:
    """Map (H, W) at (side, side): bilinear, averaging over the area when it shrinks."""
    picture = Image.fromarray(np.ascontiguousarray(anomaly_map, dtype=np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def resized_mask(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """Mask (H, W) at (side, side): a pixel is defective where at least half of its area is.

    What would vanish by that rule (a scratch thinner than half a pixel) keeps every pixel that it touches.
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
    """Share of all true defect pixels among the `area` (0..1) most salient pixels of each image.

    So methods are compared at equal mask area. Pixels tied at the cut count by the share of them that fits: a binary
    mask may be given as saliency; a smaller one is filled up, and a larger one thinned out, as if at random. A saliency
    of another size is brought to its truth's by the nearest pixel. Images without defect pixels add nothing; None where
    there are no others.
    """
    found, total = 0.0, 0
    for values, defect in zip(saliency, truth, strict=True):
        rows, columns = (np.arange(n) * m // n for n, m in zip(defect.shape, values.shape, strict=True))
        inside = np.asarray(values, dtype=np.float64)[np.ix_(rows, columns)]
        room = area * inside.size
        cut = np.sort(inside, axis=None)[::-1][min(int(room), inside.size - 1)]
        above, tied = inside > cut, inside == cut
        share = (room - above.sum()) / tied.sum()
        found += float((above & defect).sum() + share * (tied & defect).sum())
        total += int(defect.sum())
    return found / total if total else None
