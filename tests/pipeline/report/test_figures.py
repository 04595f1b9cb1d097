from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline.report import figures
from pipeline.report.tables import Table, join_names
from pipeline.show.text import counted
from stages.score.config import ScoreConfig
from stages.score.evaluate import evaluate

SCORES = np.array([1.0, 2, 3, 6, 2.5, 5, 7, 8])
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
VALIDATION = np.arange(20) / 4


def measured(
    scores: Any = SCORES, labels: Any = LABELS, validation: Any = VALIDATION, types: Any = None
) -> dict[str, Any]:
    """Real metrics of a few scores; the threshold is 4.5."""
    config = ScoreConfig(target_overkill=0.1, resamples=20)
    kinds = ["dent" if label else "" for label in labels] if types is None else types
    values = evaluate(np.asarray(scores), np.asarray(labels), kinds, np.asarray(validation), config, 0)
    return {**values, "leak_fraction": None, "leak_note": None}


def test_a_threshold_and_what_it_costs() -> None:
    table = figures.thresholds_table({"ear": measured()}, ScoreConfig())
    assert table.head == [
        "detector",
        "threshold",
        "good parts rejected",
        "interval",
        "defects passed",
        "interval",
        "FPR@95",
    ]
    cells = table.lines[0].cells
    assert [cells[i] for i in (0, 1, 2, 4, 6)] == ["ear", "4.5", "1 of 4: 25.0%", "1 of 4: 25.0%", "50.0%"]
    assert "20 good validation images" in table.notes[0]
    assert "On average over lines whose thresholds are set alike, at most 9.5% of good parts" in table.notes[0]


def test_a_promise_for_this_line_names_its_confidence() -> None:
    score = ScoreConfig(target_overkill=0.1, guarantee="confidence", confidence=0.9)
    values = evaluate(SCORES, LABELS, [""] * 8, np.arange(40.0), score, 0)
    (note,) = figures.thresholds_table({"ear": {**values, "leak_fraction": None}}, score).notes
    assert "With a confidence of 90%, this line rejects at most 10.0% of good parts" in note
    assert f"rejects more than 10.0% is {values['overkill_risk']:.0%}" in note
    assert values["overkill_risk"] <= 0.1


def test_no_threshold_is_explained() -> None:
    metrics = {"ear": measured(validation=[])}
    table = figures.thresholds_table(metrics, ScoreConfig())
    assert table.head == ["detector", "threshold", "FPR@95"]
    assert table.notes == ["There are no thresholds: no good validation images to set a threshold from."]
    head = figures.headline(metrics, "ear")
    assert (head.escape, head.escape_details) == ("–", "no good validation images to set a threshold from")
    assert figures.warnings(metrics) == ["no good validation images to set a threshold from"]


def test_the_headline_is_of_the_detector_that_decides() -> None:
    good, poor = measured(scores=LABELS * 9.0 + np.arange(8) / 9), measured()
    metrics = {"pca": good, "knn": good, "ear": poor}
    head = figures.headline(metrics, "ear")
    assert head.detector == "ear"
    reached = "reaches 1.000 [1.000 to 1.000]"
    assert head.alternatives == f"knn, the best other detector, {reached}; pca, the best baseline, {reached}"
    assert figures.headline({"pca": good, "ear": poor}, "pca").alternatives.startswith(
        "ear, the best other detector, reaches 0."
    )
    only = figures.headline({"pca": good}, "pca")
    assert (only.detector, only.alternatives) == ("pca", "")
    assert only.overkill_details.startswith("0 of 4 good parts, 0.0% to ")


def test_one_class_is_explained() -> None:
    metrics = {"ear": measured(scores=[1.0, 2], labels=[0, 0])}
    assert figures.results_table(metrics).notes[0].startswith("No ")
    assert "no defect images in the test split" in " ".join(figures.results_table(metrics).notes)
    assert figures.defect_types_table(metrics) == "There are no defects among the test images."
    assert figures.headline(metrics, "ear").auroc == "–"
    assert figures.headline(metrics, "ear").escape_details == "no defect images in the test split"


def test_baselines_are_set_apart() -> None:
    table = figures.results_table({"pca": measured(), "ear": measured()})
    assert [(line.cells[0], line.muted) for line in table.lines] == [("ear", False), ("pca (baseline)", True)]


def test_types_by_hand() -> None:
    metrics = {"ear": measured(types=[""] * 4 + ["dent", "dent", "scratch", "scratch"])}
    table = figures.defect_types_table(metrics)
    assert isinstance(table, Table)
    assert table.head == ["type of defect", "images", "ear"]
    assert [tuple(line.cells) for line in table.lines] == [
        ("dent", "2", "0.625 · 50.0%"),
        ("scratch", "2", "1.000 · 0.0%"),
    ]
    assert (
        figures.defect_types_table({"ear": measured()})
        == "There is one type, dent (4 images): the results above are about it."
    )


@pytest.mark.parametrize(
    ("interval", "effect"),
    [([0.001, 0.01], "improves"), ([-0.02, -0.001], "worsens"), ([-0.01, 0.01], "no difference shown")],
)
def test_what_a_member_does(interval: list[float], effect: str) -> None:
    table = figures.contributions_table(
        {"fused": {"added_by": {"knn": {"image_auroc": 0.005, "ci": interval}}}}, ["knn", "ear"]
    )
    assert isinstance(table, Table)
    assert table.lines[0].cells[:3] == ["knn", effect, "+0.005"]


def test_no_fusion_is_explained() -> None:
    assert "not fused" in str(figures.contributions_table({}, []))
    assert "is not known" in str(figures.contributions_table({"fused": {}}, ["ear", "knn"]))


def test_variants_are_those_of_detectors_not_of_the_fusion() -> None:
    metrics = {"ear": measured(), "fused": measured()}
    own = metrics["ear"]["image_auroc"]
    details = {"ear": {"image_auroc_of": {"ssim": own - 0.1}}, "fused": {"image_auroc_of": {"without_ear": 0.5}}}
    table = figures.variants_table(metrics, details)
    assert table is not None
    assert [tuple(line.cells) for line in table.lines] == [("ear", "ssim", f"{own - 0.1:.3f}", "-0.100")]
    assert figures.variants_table(metrics, {}) is None


def test_coverage_of_masks() -> None:
    table = figures.mask_coverage({"ear": {"mask_coverage": {"rarity_raw": 0.25}}})
    assert isinstance(table, Table)
    assert table.lines[0].cells == ["ear", "rarity raw", "25.0%"]
    why = figures.mask_coverage({"ear": {"mask_coverage": None, "mask_coverage_reason": "no masks"}})
    assert "no masks" in str(why)
    assert figures.mask_coverage({"pca": {}}) is None


def test_counts_and_lists() -> None:
    assert [counted(1, "image"), counted(2000, "image"), counted(1, "is", "are")] == ["1 image", "2,000 images", "1 is"]
    assert [join_names([]), join_names(["a"]), join_names(["a", "b"]), join_names(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
