"""Bootstrap resamples of test images that keep related images together (cluster bootstrap).

Images of one group, such as cells of a solar module, are alike. Resampling single images would count each as a new
piece of evidence, so groups are resampled whole (Davison and Hinkley, Bootstrap Methods, 1997, section 3.8). Strata are
the groups with defects only, those with good images only, and those with both; each stratum is resampled by itself, so
that every resample has images of both classes. If each image is its own group, this is the bootstrap of images
stratified by label.

Legend: N images; P defects; Q good images; G groups; B resamples at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW_GROUPS = 10
"""With fewer groups of a class, `few_groups_note` says what that means."""
_ONLY_GOOD, _ONLY_DEFECTS, _BOTH = 0, 1, 2


def group_numbers(groups: Sequence[str] | NDArray[Any]) -> NDArray[np.int64]:
    """(N,) number of each image's group, 0 to G - 1, in the order in which the groups first occur."""
    _, first, inverse = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]


def groups_of_class(labels: NDArray[np.bool_], groups: NDArray[np.int64]) -> tuple[int, int]:
    """In how many groups there are good images, and in how many defects."""
    return len(np.unique(groups[~labels])), len(np.unique(groups[labels]))


def few_groups_note(labels: NDArray[np.bool_], groups: NDArray[np.int64]) -> str | None:
    """What it means for intervals that images come from few groups, in words; None with enough, or without groups."""
    few = [
        f"{int(of_class.sum())} {name} test images come from {count} group{'s' if count > 1 else ''}"
        for name, of_class, count in zip(
            ("good", "defective"), (~labels, labels), groups_of_class(labels, groups), strict=True
        )
        if count < min(FEW_GROUPS, int(of_class.sum()))
    ]
    if not few:
        return None
    return (
        f"the {' and the '.join(few)}, so intervals rest on few independent parts: they are wide, and may miss the "
        "true value more often than stated. Test images of more groups make them narrower; more images of the same "
        "groups do not"
    )


def resampled_images(
    labels: NDArray[np.bool_], groups: NDArray[np.int64], resamples: int, seed: int, chunk: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield how often each defect (B, P) and each good image (B, Q) is sampled, some resamples at a time.

    The resamples depend only on the seed, the labels and the groups. Two detectors scored on the same images in the
    same order get the same resamples, so that their differences are paired.

    Args:
        labels: (N,) True = defect.
        groups: (N,) the group of each image; equal for related images.
        chunk: array elements to compute at a time. It bounds the memory and changes no value.
    """
    groups = group_numbers(groups)
    strata = _strata(labels, groups)
    # One generator per stratum: its resamples do not depend on the sizes of the other strata or on the chunk.
    generators = {kind: np.random.default_rng([seed, kind]) for kind in strata}
    ordered = np.concatenate(list(strata.values()))
    column = np.empty(len(ordered), np.int64)
    column[ordered] = np.arange(len(ordered))
    of_defects, of_goods = column[groups[labels]], column[groups[~labels]]
    for start in range(0, resamples, step := max(1, chunk // len(labels))):
        size = min(step, resamples - start)
        drawn = [_resample(generators[kind], len(members), size) for kind, members in strata.items()]
        counts = np.concatenate(drawn, axis=1)
        yield counts[:, of_defects], counts[:, of_goods]


def _strata(labels: NDArray[np.bool_], groups: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """The groups of each stratum that has any."""
    count = int(groups.max()) + 1
    has_defect = np.bincount(groups[labels], minlength=count) > 0
    has_good = np.bincount(groups[~labels], minlength=count) > 0
    kinds = np.where(has_defect & has_good, _BOTH, np.where(has_defect, _ONLY_DEFECTS, _ONLY_GOOD))
    return {kind: np.flatnonzero(kinds == kind) for kind in (_ONLY_DEFECTS, _ONLY_GOOD, _BOTH) if (kinds == kind).any()}


def _resample(generator: np.random.Generator, count: int, resamples: int) -> NDArray[np.int64]:
    """Sample `count` of `count` groups with replacement: (resamples, count) how often each is sampled."""
    sampled = generator.integers(0, count, size=(resamples, count))
    flat = sampled + np.arange(resamples)[:, None] * count
    return np.bincount(flat.ravel(), minlength=resamples * count).reshape(resamples, count)
