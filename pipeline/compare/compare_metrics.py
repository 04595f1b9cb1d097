"""All metrics of two sides: from predictions on the same images where possible, else from metrics.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.compare.comparison import REASONS_ONE_SIDED, UNPAIRED_METRICS, MetricComparison
from pipeline.compare.matching import MatchedImages
from pipeline.compare.paired_metrics import ComparisonSettings, area_differences, compare_paired
from pipeline.compare.sides import Key, Side
from pipeline.compare.stored_metrics import compare_stored, different_test_counts, list_without_comparing
from pipeline.project.gate_rules import PAIRED


def compare_metrics(
    a: Side, b: Side, keys: Sequence[Key], images: Mapping[Key, MatchedImages], settings: ComparisonSettings
) -> Iterator[MetricComparison]:
    """Compare the metrics of all detectors, in the order of `keys`.

    Args:
        images: the matched test images of the detectors whose predictions both sides have.
    """
    comparable = {key: matched for key, matched in images.items() if settings.common or matched.reason is None}
    areas = area_differences(comparable, settings)
    for key in keys:
        figures_a, figures_b = a.figures(key), b.figures(key)
        if key in comparable:
            yield from compare_paired(key, comparable[key], areas.get(key), settings.confidence)
            if not settings.common:  # metrics.json is about all images, not about the common ones
                reason = "from metrics.json, where it has no interval"
                yield from compare_stored(key, figures_a, figures_b, UNPAIRED_METRICS, reason)
            continue
        obstacle = _why_not_comparable(a, b, key, images.get(key))
        if obstacle is not None:
            yield from list_without_comparing(key, figures_a, figures_b, obstacle)
        else:
            metrics = (*PAIRED, *UNPAIRED_METRICS)
            yield from compare_stored(key, figures_a, figures_b, metrics, _why_no_predictions(a, b, key))


def _why_not_comparable(a: Side, b: Side, key: Key, images: MatchedImages | None) -> str | None:
    """Why the values in metrics.json must not be compared either; None if they may."""
    if images is not None:
        return images.reason
    has_detector = [key in side.predictions or key.detector in side.metrics.get(key.category, {}) for side in (a, b)]
    if not all(has_detector):
        only_in_b = not has_detector[0]
        return REASONS_ONE_SIDED[only_in_b]
    return different_test_counts(a.figures(key), b.figures(key))


def _why_no_predictions(a: Side, b: Side, key: Key) -> str:
    return "; ".join(
        f"predictions of {name}: {side.problems.get('predictions', 'none of this detector')}"
        for name, side in (("A", a), ("B", b))
        if key not in side.predictions
    )
