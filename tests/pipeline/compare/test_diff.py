"""Comparisons of two sides that are given as values."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pipeline.compare import formatting
from pipeline.compare.comparison import REASON_IDENTICAL, MetricComparison
from pipeline.compare.diff import Diff, compare_sides
from stages.paired.delong import delong
from stages.types import UserError
from tests.pipeline.compare import toy


def rows(diff: Diff, detector: str = "knn") -> dict[str, MetricComparison]:
    return {row.metric: row for row in diff.rows if row.detector == detector}


def with_rows(run: toy.Run, keep: np.ndarray | None = None, labels: dict[str, int] | None = None) -> toy.Run:
    """A run on some of the images, some of them with another label."""
    table = run.manifest if keep is None else run.manifest[keep]
    table = table.assign(
        label=[(labels or {}).get(p, old) for p, old in zip(table["path"], table["label"], strict=True)]
    )
    return toy.Run(table, {key: values[values.index.isin(table["path"])] for key, values in run.scores.items()})


def test_better_and_the_same() -> None:
    a, b = toy.run(0.5, 0, toy.manifest(60, 60)), toy.run(2.0, 1, toy.manifest(60, 60))
    diff = compare_sides(toy.side(a), toy.side(b, "B"), resamples=200)
    found = rows(diff)
    assert [found[m].verdict for m in ("image_auroc", "image_aupr", "escape_rate")] == ["better"] * 3
    for name, run in (("a", a), ("b", b)):
        written = toy.figures(run)["tile"]["knn"]
        assert all(getattr(row, name) == pytest.approx(written[metric], abs=1e-6) for metric, row in found.items())
    auroc = found["image_auroc"]
    assert auroc.difference == pytest.approx(auroc.b - auroc.a)
    assert auroc.interval is not None and auroc.interval[0] < auroc.difference < auroc.interval[1]
    scores = [table[table["split"] == "test"] for table in (toy.tables(a)["tile", "knn"], toy.tables(b)["tile", "knn"])]
    expected = delong(*(table["image_score"].to_numpy() for table in scores), scores[0]["label"].to_numpy() == 1)
    assert auroc.p == pytest.approx(expected.p)
    assert all(
        (row.difference, row.interval, row.reason) == (0.0, (0.0, 0.0), REASON_IDENTICAL)
        for row in rows(diff, "pca").values()
    )
    assert diff.images == {"tile": 120}


def test_the_other_way_round() -> None:
    a, b = (toy.side(toy.run(shift, seed)) for shift, seed in ((0.5, 0), (2.0, 1)))
    there, back = (rows(compare_sides(*both, resamples=200)) for both in ((a, b), (b, a)))
    for metric, row in there.items():
        low, high = row.interval or (0, 0)
        assert back[metric].interval == pytest.approx((-high, -low))
        assert {row.verdict, back[metric].verdict} in ({"better", "worse"}, {"no difference shown"})


def test_the_order_of_files_does_not_matter() -> None:
    a, b = toy.run(1.0, 0), toy.run(1.5, 1)
    mixed = {key: table.sample(frac=1, random_state=0) for key, table in toy.tables(b).items()}
    plain, other = (
        compare_sides(toy.side(a), side, resamples=100) for side in (toy.side(b), toy.side(b, predictions=mixed))
    )
    assert plain.rows == other.rows
    names = dict(zip(b.manifest["path"], b.manifest["path"][::-1], strict=True))
    renamed = {key: table.assign(path=table["path"].map(names)) for key, table in toy.tables(b).items()}
    old, new = toy.side(a), toy.side(b, predictions=renamed)
    assert rows(compare_sides(old, new, resamples=100))["image_aupr"].interval == rows(plain)["image_aupr"].interval
    low, high = rows(compare_sides(new, old, resamples=100))["image_aupr"].interval or (0, 0)
    assert (-high, -low) == pytest.approx(rows(plain)["image_aupr"].interval)


def test_other_images() -> None:
    a = toy.run(1.0, 0)
    keep = ~a.manifest["path"].str.contains("test-0-0000[0-2]|test-1-00000", regex=True).to_numpy()
    b = with_rows(toy.run(2.0, 1), keep)
    found = rows(compare_sides(toy.side(a), toy.side(b)))
    assert {row.verdict for row in found.values()} == {"not comparable"}
    assert formatting.describe_sides(compare_sides(toy.side(a), toy.side(b)))[-1].startswith(
        "--common compares on the test images that"
    )
    assert found["image_auroc"].reason == "different images: 4 only in A, 0 only in B, 36 in both"
    assert found["image_auroc"].difference is None
    # each side's own value is given all the same
    assert found["image_auroc"].b == pytest.approx(toy.figures(b)["tile"]["knn"]["image_auroc"])
    common = compare_sides(toy.side(a), toy.side(b), resamples=100, common=True)
    same_images = compare_sides(toy.side(with_rows(a, keep)), toy.side(b), resamples=100)
    assert common.rows == same_images.rows
    assert common.images == {"tile": 36}
    assert formatting.describe_sides(common) == [
        "tile: compared on the 36 test images in common (different images: 4 only in A, 0 only in B, 36 in both)"
    ]


def test_other_labels() -> None:
    a, b = toy.run(1.0, 0), toy.run(2.0, 1)
    b = with_rows(b, labels={"images/tile-test-0-00003.png": 1, "images/tile-test-1-00004.png": 0})
    diff = compare_sides(toy.side(a), toy.side(b))
    assert rows(diff)["image_auroc"].reason == "different labels: 2 of 40 common images"
    assert not isinstance(diff.data, str) and diff.data.relabelled.count == 2
    assert compare_sides(toy.side(a), toy.side(b), resamples=100, common=True).images == {"tile": 38}


def test_other_split() -> None:
    a, b = toy.run(1.0, 0), toy.run(2.0, 1)
    moved = b.manifest["path"].isin(["images/tile-test-0-00001.png", "images/tile-test-0-00002.png"])
    other = b.manifest.assign(split=b.manifest["split"].mask(moved, "validation"))
    other.loc[moved.idxmax(), "split"] = "train"
    b = toy.Run(other, {key: values.drop(other["path"][moved]) for key, values in b.scores.items()})
    diff = compare_sides(toy.side(a), toy.side(b))
    assert rows(diff)["image_auroc"].reason == (
        "different split: 2 of A's test images are in B's training or validation, 0 of B's in A's; "
        "different images: 2 only in A, 0 only in B, 38 in both"
    )
    assert not isinstance(diff.data, str)
    assert (diff.data.moved.count, diff.data.moved.first[0]) == (2, "images/tile-test-0-00001.png")


def test_files_of_the_same_content_are_told_apart() -> None:
    table = toy.manifest()
    table.loc[table["path"] == "images/tile-test-0-00001.png", "sha256"] = table.loc[
        table["path"] == "images/tile-test-0-00002.png", "sha256"
    ].iloc[0]
    run = toy.run(1.0, 0, table)
    diff = compare_sides(toy.side(run), toy.side(toy.run(1.5, 1, table)), resamples=100)
    assert diff.images == {"tile": 40}
    assert rows(diff)["image_auroc"].interval is not None
    fewer = with_rows(run, (table["path"] != "images/tile-test-0-00001.png").to_numpy())
    assert rows(compare_sides(toy.side(run), toy.side(fewer)))["image_auroc"].reason == (
        "different images: 1 only in A, 0 only in B, 39 in both"
    )


def test_data_added_and_removed() -> None:
    a, b = toy.manifest(goods=20), toy.manifest(goods=22, train=3)
    diff = compare_sides(toy.side(toy.run(table=a)), toy.side(toy.run(table=b)))
    assert not isinstance(diff.data, str)
    assert diff.data.added.first == ("images/tile-test-0-00020.png", "images/tile-test-0-00021.png")
    assert diff.data.removed.first == ("images/tile-train-0-00003.png",)
    without = toy.side(toy.run(table=b), "B", manifest=None, problems={"manifest": "gone"})
    assert compare_sides(toy.side(toy.run(table=a)), without).data == "B: gone"


def test_params() -> None:
    a = toy.side(toy.run(params={"seed": 0, "knn": {"k": 1, "old": [1, 2]}}))
    b = toy.side(toy.run(params={"seed": 0, "knn": {"k": 2, "deep": {"er": None}}, "new": "x"}))
    changes = {change.key: (change.a, change.b) for change in compare_sides(a, b).params}
    assert changes == {"knn.k": (1, 2), "new": (None, "x"), "knn.old": ([1, 2], None)}


def test_flips_worst_first() -> None:
    table = toy.manifest(goods=6, bads=6)
    used = table[table["split"] != "train"]["path"]
    old = pd.Series(np.where(used.str.contains("-1-"), 2.0, 0.0), index=used)
    new = old.copy()
    new["images/tile-test-1-00000.png"] = 0.5  # missed, by 0.5
    new["images/tile-test-1-00001.png"] = -3.0  # missed, by 4
    new["images/tile-test-0-00000.png"] = 3.0  # alarm, by 2
    old["images/tile-test-1-00002.png"] = 0.0  # found now
    old["images/tile-test-0-00001.png"] = 9.0  # no alarm any more
    a, b = (toy.side(toy.Run(table, {("tile", "knn"): values})) for values in (old, new))
    flips = compare_sides(a, b, resamples=100).flips
    assert [(flip.kind, flip.path[-11:-4]) for flip in flips] == [
        ("newly missed defect", "1-00001"),
        ("new false alarm", "0-00000"),
        ("newly missed defect", "1-00000"),
        ("false alarm gone", "0-00001"),
        ("newly found defect", "1-00002"),
    ]
    assert (flips[0].score_a, flips[0].score_b, flips[0].threshold_b) == (2.0, -3.0, 1.0)
    good = b.predictions["tile", "knn"].query("split == 'test' and label == 0")["image_score"]
    assert flips[0].beyond == pytest.approx(4 / good.std(ddof=0))


def test_each_side_has_its_own_threshold() -> None:
    a = toy.run(1.0, 0)
    b = toy.Run(a.manifest, a.scores, threshold=-9.0)
    diff = compare_sides(toy.side(a), toy.side(b), resamples=100)
    assert rows(diff)["image_auroc"].difference == 0
    assert (rows(diff)["overkill_rate"].b, rows(diff)["overkill_rate"].verdict) == (1.0, "worse")
    assert rows(diff)["overkill_rate"].reason is None
    assert any(flip.kind == "new false alarm" for flip in diff.flips)


def test_without_threshold_or_class() -> None:
    found = rows(compare_sides(toy.side(toy.run(threshold=None)), toy.side(toy.run(seed=1)), resamples=100))
    assert found["escape_rate"].reason == "A has no threshold, so there are no decisions"
    assert found["image_auroc"].interval is not None
    found = rows(
        compare_sides(
            toy.side(toy.run(table=toy.manifest(bads=0))), toy.side(toy.run(table=toy.manifest(bads=0), seed=1))
        )
    )
    assert found["image_auroc"].reason == "no defect images among the compared images"
    assert found["overkill_rate"].interval is not None
    found = rows(
        compare_sides(
            toy.side(toy.run(table=toy.manifest(bads=1))), toy.side(toy.run(table=toy.manifest(bads=1), seed=1))
        )
    )
    assert found["image_auroc"].verdict == "no interval"


def test_detectors_of_one_side() -> None:
    a, b = toy.run(), toy.run(seed=1)
    fewer = toy.Run(a.manifest, {key: values for key, values in a.scores.items() if key[1] == "pca"})
    diff = compare_sides(toy.side(fewer), toy.side(b), resamples=100)
    assert {(row.verdict, row.reason) for row in rows(diff).values()} == {("not comparable", "only in B")}
    assert rows(diff)["image_auroc"].a is None and rows(diff)["image_auroc"].b is not None


def test_falls_back_to_the_metrics() -> None:
    a, b = toy.run(0.5, 0), toy.run(2.0, 1)
    lost = toy.side(a, predictions={}, problems={"predictions": "gone"})
    diff = compare_sides(lost, toy.side(b, "B"))
    found = rows(diff)["image_auroc"]
    assert (found.verdict, found.reason, found.interval) == ("no interval", "predictions of A: gone", None)
    metrics = [toy.figures(run)["tile"]["knn"]["image_auroc"] for run in (a, b)]
    assert found.difference == pytest.approx(metrics[1] - metrics[0])
    other = toy.run(2.0, 1, toy.manifest(goods=30))
    assert rows(compare_sides(lost, toy.side(other)))["image_auroc"].reason == (
        "different images: 20+20 test images in A, 30+20 in B"
    )


def test_metrics_of_an_older_layout() -> None:
    figures = toy.figures(toy.run())
    for detector in figures["tile"].values():
        del detector["image_aupr"], detector["n_test_normal"]
    old = toy.side(toy.run(), metrics=figures, predictions={}, problems={"predictions": "gone"})
    found = rows(compare_sides(old, toy.side(toy.run(seed=1))))
    assert found["image_auroc"].verdict == "no interval"
    assert found["image_aupr"].reason == "metrics.json of A is of another layout: no image_aupr"


def test_pixel_figures_come_from_the_metrics() -> None:
    sides = []
    for value in (0.5, 0.75):
        figures = toy.figures(toy.run())
        figures["tile"]["knn"]["aupro"] = value
        sides.append(toy.side(toy.run(), metrics=figures))
    found = rows(compare_sides(*sides))["aupro"]
    assert (found.difference, found.verdict, found.interval) == (0.25, "no interval", None)
    assert "pixel_auroc" not in rows(compare_sides(*sides))
    assert "aupro" not in rows(compare_sides(*sides, common=True))  # metrics.json is about all images


def test_metrics_from_another_run_than_the_predictions() -> None:
    note = compare_sides(
        toy.side(toy.run(), metrics=toy.figures(toy.run(seed=5))), toy.side(toy.run(seed=1)), resamples=100
    ).a
    assert "are from different runs" in note["notes"][0]
    assert compare_sides(toy.side(toy.run()), toy.side(toy.run(seed=1)), resamples=100).a["notes"] == ()


def test_headline() -> None:
    run = toy.run()
    fused = toy.Run(run.manifest, {**run.scores, ("tile", "fused"): run.scores["tile", "knn"]})
    assert compare_sides(toy.side(fused), toy.side(fused)).headline == {"tile": "fused"}
    named = toy.side(run, params={"detectors": ["pca", "knn"]})
    assert compare_sides(toy.side(run), named).headline == {"tile": "pca"}


def test_json() -> None:
    diff = compare_sides(toy.side(toy.run()), toy.side(toy.run(seed=1)), resamples=100, seed=3)
    plain = json.loads(json.dumps(diff.to_json(), allow_nan=False))
    assert plain["schema"] == 1
    assert {row["metric"] for row in plain["rows"]} == {"image_auroc", "image_aupr", "escape_rate", "overkill_rate"}
    assert len(plain["flips"]) == len(diff.flips) > 0
    assert diff == compare_sides(toy.side(toy.run()), toy.side(toy.run(seed=1)), resamples=100, seed=3)


def test_nothing_to_compare() -> None:
    empty = toy.side(toy.run(), metrics={}, predictions={})
    with pytest.raises(UserError, match="no detector to compare"):
        compare_sides(empty, empty)
