from __future__ import annotations

import pytest

from pipeline.compare.diff import Diff, compare_sides
from pipeline.compare.gate import find_breaches
from pipeline.project.gate_rules import Rule
from stages.types import UserError
from tests.pipeline.compare import toy


@pytest.fixture(scope="module")
def worse() -> Diff:
    """`knn` is far worse, `pca` is identical."""
    table = toy.manifest(80, 80)
    return compare_sides(toy.side(toy.run(2.0, 0, table)), toy.side(toy.run(0.3, 1, table)), resamples=200)


def names(diff: Diff, rule: str, **chosen: list[str]) -> list[str]:
    return [breach.row.label for breach in find_breaches(diff, Rule.parse(rule), **chosen)]


def test_parse() -> None:
    rules = Rule.parse(" image_auroc >= -0.005, mono/knn:escape_rate<=+0.01,*/*:overkill_rate<=1e-2 ")
    assert rules == (
        Rule("image_auroc", ">=", -0.005),
        Rule("escape_rate", "<=", 0.01, "mono/knn"),
        Rule("overkill_rate", "<=", 0.01, "*/*"),
    )
    assert str(rules[1]) == "mono/knn:escape_rate<=+0.01"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "needs a rule"),
        ("image_auroc", "no rule of a gate"),
        ("image_auroc>-0.1", "no rule of a gate"),
        ("image_auroc>=x", "no rule of a gate"),
        ("image_auroc>=1.2.3", "no rule of a gate"),
        ("knn:image_auroc>=0", "no rule of a gate"),
        ("auroc>=0", "'auroc' .* is no metric"),
    ],
)
def test_bad_rules(text: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        Rule.parse(text)


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("image_auroc>=-0.5", False),  # worse, but not by so much
        ("image_auroc>=-0.01", True),
        ("escape_rate<=+0.01", True),
        ("escape_rate<=+0.9", False),
        ("overkill_rate<=0", False),  # it may have risen, but the interval does not show it
        ("image_auroc<=0", False),
    ],
)
def test_a_breach_is_significant(worse: Diff, rule: str, broken: bool) -> None:
    assert bool(names(worse, rule)) == broken


def test_the_interval_decides() -> None:
    rule = Rule("image_auroc", ">=", -0.01)
    assert rule.breached_by((-0.03, -0.011))
    assert not rule.breached_by((-0.03, -0.01))
    rule = Rule("escape_rate", "<=", 0.01)
    assert rule.breached_by((0.011, 0.03)) and not rule.breached_by((0.01, 0.03))


def test_which_rows(worse: Diff) -> None:
    assert worse.headline == {"tile": "knn"}
    assert names(worse, "image_auroc>=0") == ["tile/knn:image_auroc"]
    assert names(worse, "image_auroc>=0", detectors=["pca"]) == []
    assert names(worse, "*/*:image_auroc>=0", detectors=["pca"]) == ["tile/knn:image_auroc"]
    assert names(worse, "tile/pca:image_auroc>=0") == []
    with pytest.raises(UserError, match=r"matches no result; available: tile/knn, tile/pca"):
        names(worse, "image_auroc>=0", categories=["bolt"])


def test_a_rule_that_cannot_be_evaluated_is_an_error() -> None:
    a, b = toy.side(toy.run()), toy.side(toy.run(table=toy.manifest(goods=30)))
    with pytest.raises(
        UserError, match=r"cannot be evaluated: tile/\w+:image_auroc: not comparable: different images: 0 only"
    ):
        names(compare_sides(a, b), "image_auroc>=-1")
    lost = toy.side(toy.run(), predictions={}, problems={"predictions": "gone"})
    with pytest.raises(UserError, match="no interval: predictions of A: gone"):
        names(compare_sides(lost, toy.side(toy.run(seed=1))), "image_auroc>=-1")


def test_without_defective_images_overkill_can_be_evaluated() -> None:
    """As the README recommends for data without defective images."""
    table = toy.manifest(80, 0)
    strict = toy.Run(table, toy.run(seed=1, table=table).scores, threshold=-9.0)
    diff = compare_sides(toy.side(toy.run(table=table)), toy.side(strict), resamples=100)
    with pytest.raises(UserError, match=r"cannot be evaluated: tile/knn:image_auroc.*no defect images"):
        names(diff, "image_auroc>=-0.01")
    assert names(diff, "overkill_rate<=+0.02") == ["tile/knn:overkill_rate"]
