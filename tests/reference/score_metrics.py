"""Slow, plain versions of the metrics: pairs of images, loops over thresholds, flood fill."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


def auroc(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> float:
    """Wins of defects over good images, pair by pair, ties half."""
    wins = 0.0
    for bad in scores[labels]:
        for good in scores[~labels]:
            wins += 1.0 if bad > good else 0.5 if bad == good else 0.0
    return wins / (labels.sum() * (~labels).sum())


def regions(mask: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """8-connected regions by flood fill, as lists of pixels."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(mask)}, []
    while left:
        stack, region = [left.pop()], []
        while stack:
            y, x = stack.pop()
            region.append((y, x))
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (y + dy, x + dx) in left:
                        left.remove((y + dy, x + dx))
                        stack.append((y + dy, x + dx))
        found.append(region)
    return found


def aupro(maps: list[NDArray[np.floating]], masks: list[NDArray[np.bool_]], max_fpr: float) -> float:
    """Mean region overlap against pixel FPR at every distinct value, integrated segment by segment up to `max_fpr`."""
    values = sorted({float(v) for one in maps for v in one.ravel()}, reverse=True)
    points = [(0.0, 0.0)]
    for value in values:
        wrong = sum(int(((one >= value) & ~mask).sum()) for one, mask in zip(maps, masks, strict=True))
        good = sum(int((~mask).sum()) for mask in masks)
        overlaps = [
            sum(one[pixel] >= value for pixel in region) / len(region)
            for one, mask in zip(maps, masks, strict=True)
            for region in regions(mask)
        ]
        points.append((wrong / good, sum(overlaps) / len(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= max_fpr or x1 == x0:
            continue
        end = min(x1, max_fpr)
        area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / max_fpr
