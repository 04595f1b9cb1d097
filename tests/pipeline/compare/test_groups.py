"""Intervals of a comparison where test images share groups."""

from __future__ import annotations

from dataclasses import replace

from pipeline.compare import formatting
from pipeline.compare.comparison import MetricComparison
from pipeline.compare.diff import Diff, compare_sides
from pipeline.compare.sides import Side
from tests.pipeline.compare import toy


def rows(diff: Diff) -> dict[str, MetricComparison]:
    return {row.metric: row for row in diff.rows if row.detector == "knn"}


def in_groups(side: Side, of: int) -> Side:
    """The same predictions, with `of` consecutive images to a group."""
    found = {
        key: table.assign(group=[f"lot{number // of}" for number in range(len(table))])
        for key, table in side.predictions.items()
    }
    return replace(side, predictions=found)


def test_intervals_are_by_groups_where_the_predictions_have_them() -> None:
    table = toy.manifest(60, 60, validation=0)
    a, b = (toy.side(toy.run(shift, seed, table)) for shift, seed in ((1.0, 0), (1.3, 1)))
    plain = compare_sides(a, b, resamples=300)
    grouped = compare_sides(in_groups(a, 12), in_groups(b, 12), resamples=300)
    for metric, row in rows(grouped).items():
        assert row.difference == rows(plain)[metric].difference
        assert row.interval != rows(plain)[metric].interval, metric
    assert rows(grouped)["image_auroc"].p != rows(plain)["image_auroc"].p
    assert (plain.groups, plain.few_groups) == ({}, {})
    assert grouped.groups == {"tile": (5, 5)}
    assert "60 good test images come from 5 groups" in "".join(formatting.describe_sides(grouped))
    # an earlier layout on one side has no groups: those of the other side count, for both orders
    for one, other in ((a, in_groups(b, 12)), (in_groups(a, 12), b)):
        assert compare_sides(one, other, resamples=300).rows == grouped.rows
    many = compare_sides(in_groups(a, 4), in_groups(b, 4), resamples=50)
    assert not many.few_groups
    assert "15 of good images, 15 of defects" in "".join(formatting.describe_sides(many))
