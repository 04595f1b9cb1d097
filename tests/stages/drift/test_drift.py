"""False alarms at the level, changes that must be found, and lots that are no drift."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from stages.drift import drift
from stages.drift.config import DriftConfig
from stages.drift.descriptors import Descriptors
from stages.drift.effects import feature_effect
from stages.types import UserError


def made(generator: np.random.Generator, n: int, channels: int = 8) -> Descriptors:
    """Images of one kind: channels that go together, with heavy tails."""
    common = generator.normal(size=(n, 1))
    features = (common + generator.standard_t(4, (n, channels))).astype(np.float32)
    return Descriptors(features, generator.normal(0.5, 0.1, n), generator.gamma(2, 0.01, n))


def changed(images: Descriptors, features: float = 0, brightness: float = 0, sharpness: float = 1) -> Descriptors:
    return replace(
        images,
        features=images.features + np.float32(features),
        brightness=images.brightness + brightness,
        sharpness=images.sharpness * sharpness,
    )


def by_name(result: drift.Drift) -> dict[str, drift.Finding]:
    return {finding.name: finding for finding in result.findings}


def compare(training: Descriptors, new: Descriptors, config: DriftConfig, seed: int) -> drift.Drift:
    return drift.compare({"part": (training, new)}, config, seed)["part"]


def two(n: int = 80, m: int = 30) -> tuple[Descriptors, Descriptors]:
    generator = np.random.default_rng(0)
    return made(generator, n), made(generator, m)


@pytest.mark.parametrize(("n", "m"), [(60, 20), (30, 30)])
def test_false_alarms_come_at_the_level(n: int, m: int) -> None:
    """250 draws at 0.1: 25 are expected at most (Holm), 40 come by chance once in a thousand; and not none."""
    config = DriftConfig(level=0.1, permutations=99)
    generator = np.random.default_rng(n)
    alarms = sum(compare(made(generator, n), made(generator, m), config, i).drifted for i in range(250))
    assert 8 <= alarms <= 40


@pytest.mark.parametrize("test", ["brightness", "sharpness", "features"])
def test_what_changed_is_named_with_its_size(test: str) -> None:
    training, new = two()
    shift = {"brightness": {"brightness": -0.2}, "sharpness": {"sharpness": 0.2}, "features": {"features": 1.5}}[test]
    result = compare(training, changed(new, **shift), DriftConfig(), 0)
    assert result.drifted
    findings = by_name(result)
    assert {name for name, finding in findings.items() if finding.found} - {"distance"} == {test}
    words = findings[test].describe()
    if test == "brightness":
        effect = (new.brightness.mean() - 0.2 - training.brightness.mean()) / training.brightness.std()
        assert findings[test].effect == pytest.approx(effect)
        assert words.startswith(f"brightness: darker by {-effect:.2g} training standard deviations (p = ")
    elif test == "sharpness":
        assert "more blurred by" in words
    else:
        assert findings[test].effect == pytest.approx(1.5 / training.features.std(0).mean(), rel=0.3)


def test_what_chance_moves_is_no_effect() -> None:
    """40 and 20 images: each channel's means differ by sqrt(1/40 + 1/20) = 0.27 by chance alone."""
    generator = np.random.default_rng(0)
    old, new = (generator.normal(size=(n, 400)).astype(np.float32) for n in (40, 20))
    assert feature_effect(old, new) == pytest.approx(0, abs=0.12)
    assert feature_effect(old, new + np.float32(0.5)) == pytest.approx(0.5, abs=0.1)


def test_images_that_scatter_more_lie_farther_away_though_their_mean_is_the_same() -> None:
    training, new = two()
    result = compare(training, Descriptors(3 * new.features, new.brightness, new.sharpness), DriftConfig(), 0)
    assert by_name(result)["distance"].found
    assert "farther from the nearest training images" in by_name(result)["distance"].describe()


def test_the_same_kind_is_no_drift_and_says_no_difference() -> None:
    result = compare(*two(), DriftConfig(), 0)
    assert not result.drifted
    assert result.lines()[0] == "no drift shown: 30 new images against 80 of training, level 0.01"
    assert all("no difference shown" in line for line in result.lines()[1:])


def test_same_bytes_twice_and_the_seed_counts() -> None:
    texts = [json.dumps(compare(*two(), DriftConfig(), seed).to_json(), allow_nan=False) for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    read = json.loads(texts[0])
    assert read["drifted"] is False and [finding["name"] for finding in read["findings"]] == list(drift.TESTS)


def test_every_parameter_counts() -> None:
    training, new = two()
    new = changed(new, brightness=0.025)

    def compared(**changes: float) -> drift.Drift:
        return compare(training, new, DriftConfig(**changes), 0)  # type: ignore[arg-type]

    p = by_name(compared())["brightness"].adjusted
    assert 0.011 < p < 0.45
    assert not compared(level=p * 0.99).drifted and compared(level=p * 1.01).drifted
    first, more = by_name(compared())["features"], by_name(compared(permutations=2999))["features"]
    assert first.statistic == more.statistic and first.p_value != more.p_value
    assert round(more.p_value * 3000, 6) == round(more.p_value * 3000)
    assert by_name(compared(neighbours=1))["distance"] != by_name(compared(neighbours=5))["distance"]
    assert compared(least=30).findings and not compared(least=31).findings


def test_too_few_images_are_not_tested_and_say_so() -> None:
    training, new = two(80, 11)
    result = compare(training, new, DriftConfig(), 0)
    assert (result.drifted, result.findings) == (False, ())
    assert result.lines() == ["drift not tested: 11 new images, fewer than 12 (drift.least)"]
    assert "11 training images" in compare(new, training, DriftConfig(), 0).reason


def test_more_neighbours_than_training_images_means_all_of_them() -> None:
    result = compare(*two(20, 20), DriftConfig(neighbours=1000), 0)
    assert by_name(result)["distance"].p_value > 0


def test_only_so_many_are_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MAX_COMPARED", 40)
    sizes: list[tuple[int, int]] = []
    plain = drift.energy_test

    def seen(distances, n, labels):  # type: ignore[no-untyped-def]
        sizes.append((len(distances), n))
        return plain(distances, n, labels)

    monkeypatch.setattr(drift, "energy_test", seen)
    training, new = two(100, 90)
    assert not compare(training, new, DriftConfig(), 0).drifted
    assert compare(training, changed(new, features=1.5), DriftConfig(), 0).drifted
    assert sizes == [(80, 40)] * 2


def test_one_level_for_all_categories() -> None:
    """A difference that one category alone would show is none among five."""
    training, new = two()
    new = changed(new, brightness=0.025)
    p = by_name(compare(training, new, DriftConfig(), 0))["brightness"].p_value
    config = DriftConfig(level=6 * p)
    assert compare(training, new, config, 0).drifted
    pairs = {"part": (training, new)} | {str(i): (made(np.random.default_rng(i), 80), two()[1]) for i in range(1, 5)}
    results = drift.compare(pairs, config, 0)
    assert list(results) == list(pairs)
    assert not results["part"].drifted
    assert by_name(results["part"])["brightness"].adjusted > 15 * p
    with pytest.raises(UserError, match="in 20 tests: set permutations to 999 or more"):
        drift.compare(pairs, DriftConfig(level=0.02, permutations=400), 0)
    few = drift.compare({"few": two(80, 5), "part": (training, new)}, config, 0)
    assert few["few"].reason and few["part"].drifted


def in_lots(generator: np.random.Generator, lots: range, of: int, spread: float, shift: float = 0) -> Descriptors:
    """`of` images of each lot; lots differ in brightness by `spread`."""
    images = made(generator, of * len(lots))
    names = np.repeat([f"lot{number}" for number in lots], of).astype(object)
    levels = np.repeat(generator.normal(0, spread, len(lots)), of) + shift
    return Descriptors(images.features, images.brightness + levels, images.sharpness, names)


def test_a_whole_new_lot_is_no_drift_unless_it_differs_more_than_lots_do() -> None:
    generator = np.random.default_rng(2)
    training = in_lots(generator, range(8), 15, 0.3)
    new = in_lots(generator, range(8, 9), 30, 0.0, shift=0.35)
    result = compare(training, new, DriftConfig(), 0)
    assert (result.differs, result.drifted, result.is_new_lot) == (True, False, True)
    assert result.lines()[0].startswith("new lot: 30 new images against 120")
    assert "1 lot that training does not have, and differ no more than the 8 lots" in result.lines()[1]
    assert result.to_json()["drifted"] is False
    moved = compare(training, changed(new, brightness=1.5), DriftConfig(), 0)
    assert moved.drifted and "differ more than the 8 lots of training do (brightness)" in moved.lines()[1]
    # what the lots of training never differ in is a drift, though the brightness is explained
    sharper = compare(training, changed(new, sharpness=4), DriftConfig(), 0)
    assert sharper.drifted and "(sharpness)" in sharper.lots
    # without groups, and for lots that training has, it is a drift
    assert compare(training, replace(new, lots=None), DriftConfig(), 0).lots == ""
    known = replace(new, lots=np.repeat("lot1", 30).astype(object))
    assert compare(training, known, DriftConfig(), 0).drifted
    single = replace(training, lots=np.repeat("only", 120).astype(object))
    alone = compare(single, new, DriftConfig(), 0)
    assert alone.drifted and "this may be the lot, not a drift" in alone.lots


@pytest.mark.long
def test_a_new_lot_of_the_same_kind_is_called_drift_about_once_in_the_number_of_lots() -> None:
    """60 draws of 9 lots and a tenth: once in ten by chance, at most; every one of them differs."""
    drifted = differs = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        result = compare(
            in_lots(generator, range(9), 8, 1.0), in_lots(generator, range(9, 10), 16, 1.0), DriftConfig(), 0
        )
        drifted, differs = drifted + result.drifted, differs + result.differs
    assert differs > 30
    assert drifted <= 14


def test_what_never_varies_in_training() -> None:
    training, new = two()
    flat = Descriptors(np.full_like(training.features, 0.1), np.full(80, 0.3), training.sharpness)
    same = Descriptors(np.full_like(new.features, 0.1), np.full(30, 0.3), new.sharpness)
    assert not compare(flat, same, DriftConfig(), 0).drifted
    findings = by_name(compare(flat, changed(same, features=1, brightness=0.1), DriftConfig(), 0))
    assert findings["features"].found and findings["brightness"].found
    assert findings["brightness"].effect is None and findings["features"].effect is None
    assert "all training images are equal in it" in findings["brightness"].describe()


def test_bad_input_is_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(UserError, match="training images have 8 channels, new images 5"):
        compare(made(generator, 20), made(generator, 20, 5), DriftConfig(), 0)
    with pytest.raises(ValidationError, match="set permutations to 399 or more"):
        DriftConfig(permutations=398)
    DriftConfig(permutations=399)
