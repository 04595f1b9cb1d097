from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stages.score.config import ScoreConfig
from stages.score.evaluate import evaluate
from stages.types import UserError

FAST = ScoreConfig(resamples=50)
GOOD, BAD = [0.0, 1.0, 2.0, 3.0], [2.5, 4.0, 5.0]


def run(config: ScoreConfig = FAST, seed: int = 0, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "scores": GOOD + BAD,
        "labels": [0] * 4 + [1] * 3,
        "defect_types": [None] * 4 + ["crack", "hole", ""],
        "validation_scores": np.linspace(0, 2.9, 39),
    }
    return evaluate(**{**values, **changes}, config=config, seed=seed)


def with_masks(defect_mask: bool = True, last: Any = None, **changes: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    mask = np.zeros((20, 20), bool)
    mask[4:9, 4:9] = True
    maps = [generator.random((10, 10)).astype(np.float32) for _ in range(7)]
    maps[4][2:4, 2:4] += 0.5
    masks = [None] * 4 + [mask if defect_mask else None, None, last]
    return run(maps=iter(maps), masks=iter(masks), **changes)


def nulls(value: dict[str, Any]) -> set[str]:
    return {key for key, inner in value.items() if inner is None and not key.endswith("_note")}


def test_values_by_hand() -> None:
    values = run()
    assert values["image_auroc"] == pytest.approx(11 / 12, abs=1e-6)
    assert values["f1_max"] == pytest.approx(6 / 7, abs=1e-6)  # from 2.5 on: 3 defects, 1 good
    assert values["f1_max_threshold"] == 2.5
    assert values["fpr_at_95tpr"] == 0.25
    assert values["threshold"] == pytest.approx(np.linspace(0, 2.9, 39)[37])  # 38th of 39
    assert values["overkill_bound"] == pytest.approx(0.05)
    assert values["escape_rate"] == pytest.approx(1 / 3, abs=1e-6)
    assert values["overkill_rate"] == 0.25
    assert values["escape_rate_ci"][0] < 1 / 3 < values["escape_rate_ci"][1]
    assert (values["n_test_normal"], values["n_test_defect"], values["n_validation"], values["n_masks"]) == (
        4,
        3,
        39,
        0,
    )
    assert set(values["per_type"]) == {"crack", "hole", "unnamed"}
    assert values["per_type"]["crack"]["image_auroc"] == 0.75
    assert (values["per_type"]["crack"]["escape_rate"], values["per_type"]["hole"]["escape_rate"]) == (1.0, 0.0)


def test_every_null_has_a_reason_and_the_other_way_round() -> None:
    cases = [
        run(),
        with_masks(),
        with_masks(defect_mask=False),
        run(validation_scores=[]),
        run(scores=GOOD, labels=[0] * 4, defect_types=[None] * 4),
        run(scores=BAD, labels=[1] * 3, defect_types=["a"] * 3, validation_scores=[]),
        run(scores=[1.0, 2.0], labels=[0, 1], defect_types=[None, "a"]),
        run(scores=[], labels=[], defect_types=[], validation_scores=[]),
    ]
    for values in cases:
        assert nulls(values) == set(values["reasons"])
        for own in values["per_type"].values():
            assert nulls(own) == set(own["reasons"])
        text = json.dumps(values, allow_nan=False)
        assert json.loads(text) == values
    assert cases[4]["image_auroc"] is None
    assert cases[4]["overkill_rate"] == 0.25
    assert cases[4]["reasons"]["escape_rate"] == "no defect images in the test split"
    assert cases[6]["image_auroc"] == 1
    assert cases[6]["image_auroc_ci"] is None


def test_few_validation_images_are_named() -> None:
    values = run(validation_scores=[1.0])
    assert values["threshold"] == 1
    assert values["overkill_bound"] == 0.5
    assert "19 are needed" in values["threshold_note"]


def test_pixel_metrics_use_the_images_whose_truth_is_known() -> None:
    values = with_masks()
    assert values["n_masks"] == 1
    assert 0.5 < values["pixel_auroc"] <= 1
    assert 0 < values["aupro"] <= 1
    assert "aupro" not in values["reasons"]
    assert with_masks(last=np.zeros((20, 20), bool)) == values  # an empty mask of a defect says nothing, like none


def test_maps_are_read_once_and_one_at_a_time() -> None:
    alive: list[int] = []

    def maps() -> Any:
        for position in range(7):
            alive.append(position)
            yield np.zeros((4, 4), np.float32)

    def masks() -> Any:
        for position in range(7):
            assert alive[-1] == position
            yield None

    run(maps=maps(), masks=masks())
    assert alive == list(range(7))


def test_every_parameter_changes_something() -> None:
    generator = np.random.default_rng(0)
    own = {"scores": generator.normal(size=7), "validation_scores": generator.normal(size=39)}
    plain = with_masks(**own)
    for changes in (
        {"target_overkill": 0.2},
        {"confidence": 0.5},
        {"aupro_max_fpr": 0.1},
        {"pixel_side": 16},
    ):
        assert with_masks(config=FAST.model_copy(update=changes), **own) != plain, changes
    assert with_masks(**own) == plain
    scores, labels = generator.normal(size=60), [0] * 30 + [1] * 30
    many = {"scores": scores, "labels": labels, "defect_types": [""] * 60}
    assert run(seed=1, **many) != run(**many)
    assert run(ScoreConfig(resamples=60), **many) != run(**many)


@pytest.mark.parametrize("changes", [{"target_overkill": 0}, {"confidence": 1}, {"resamples": 0}, {"pixel_side": 0}])
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScoreConfig(**changes)


def test_scores_and_maps_must_be_finite() -> None:
    with pytest.raises(UserError, match=r"test image at position 1 is nan"):
        run(scores=[0.0, float("nan"), 2, 3, 4, 5, 6])
    with pytest.raises(UserError, match=r"validation image at position 0 is inf"):
        run(validation_scores=[float("inf")])
    maps = [np.full((4, 4), np.nan, np.float32) if i == 2 else np.zeros((4, 4), np.float32) for i in range(7)]
    with pytest.raises(UserError, match="map of the test image at position 2"):
        run(maps=maps, masks=[None] * 7)


def test_the_interval_narrows_with_more_images() -> None:
    generator = np.random.default_rng(0)
    widths = []
    for count in (20, 500):
        scores = np.concatenate([generator.normal(size=count), generator.normal(1, 1, count)])
        values = run(scores=scores, labels=[0] * count + [1] * count, defect_types=[""] * 2 * count)
        widths.append(values["image_auroc_ci"][1] - values["image_auroc_ci"][0])
    assert widths[1] < widths[0] / 3


def test_related_images_widen_all_intervals_and_few_groups_are_named() -> None:
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(12), 10)
    labels = of % 2
    scores = rng.normal(size=12)[of] + 0.3 * rng.normal(size=120) + labels
    changes: dict[str, Any] = {"scores": scores, "labels": labels, "defect_types": [None] * 120}
    plain = run(**changes)
    related = run(**changes, groups=[f"module{number}" for number in of])
    for name in ("image_auroc", "image_aupr", "escape_rate", "overkill_rate"):
        assert related[name] == plain[name]
        widths = [values[f"{name}_ci"][1] - values[f"{name}_ci"][0] for values in (plain, related)]
        assert widths[1] > 1.3 * widths[0], name
    assert (related["n_groups_normal"], related["n_groups_defect"]) == (6, 6)
    assert (plain["n_groups_normal"], plain["groups_note"]) == (60, None)
    assert "60 good test images come from 6 groups and the 60 defective" in related["groups_note"]
    per_type = related["per_type"]["unnamed"]
    assert per_type["image_auroc_ci"] == related["image_auroc_ci"]
    many = run(**changes, groups=np.repeat(np.arange(60), 2))
    assert many["groups_note"] is None
    alone = run(**changes, groups=labels)
    assert alone["image_auroc_ci"] is None and "two groups" in alone["reasons"]["image_auroc_ci"]
