"""Hand values, slow references, false alarms at the level, and changes that must be found."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from stages.drift import drift
from stages.drift.config import DriftConfig
from stages.drift.descriptors import Descriptors
from stages.types import UserError


def made(generator: np.random.Generator, n: int, channels: int = 8) -> Descriptors:
    """Images of one kind: channels that go together, with heavy tails."""
    common = generator.normal(size=(n, 1))
    features = (common + generator.standard_t(4, (n, channels))).astype(np.float32)
    return Descriptors(features, generator.normal(0.5, 0.1, n), generator.gamma(2, 0.01, n))


def changed(images: Descriptors, features: float = 0, brightness: float = 0, sharpness: float = 1) -> Descriptors:
    return Descriptors(
        images.features + np.float32(features), images.brightness + brightness, images.sharpness * sharpness
    )


def by_name(result: drift.Drift) -> dict[str, drift.Finding]:
    return {finding.name: finding for finding in result.findings}


def two(n: int = 80, m: int = 30) -> tuple[Descriptors, Descriptors]:
    generator = np.random.default_rng(0)
    return made(generator, n), made(generator, m)


def test_energy_distance_by_hand_and_all_relabellings() -> None:
    """0, 1 against 4, 5: 2 * 4 - 0.5 - 0.5 = 7; of the six relabellings, it and its mirror are as far apart."""
    a, b = np.array([[0], [1]], np.float32), np.array([[4], [5]], np.float32)
    statistic, p = drift.energy_test(a, b, 20_000, np.random.default_rng(0))
    assert statistic == pytest.approx(7)
    assert p == pytest.approx(2 / 6, abs=0.01)


def test_energy_test_against_loops() -> None:
    """The statistic, and the p value over all relabellings of 4 + 3 images."""
    generator = np.random.default_rng(1)
    both = generator.normal(size=(7, 3))
    both[4:] += 0.8
    distances = np.sqrt(((both[:, None] - both[None]) ** 2).sum(2))

    def energy(second: tuple[int, ...]) -> float:
        first = [i for i in range(7) if i not in second]
        means = [distances[np.ix_(x, y)].mean() for x, y in ((first, second), (first, first), (second, second))]
        return float(2 * means[0] - means[1] - means[2])

    everyone = [energy(second) for second in combinations(range(7), 3)]
    observed = energy((4, 5, 6))
    exact = np.mean([value >= observed - 1e-12 for value in everyone])
    rows = both.astype(np.float32)
    statistic, p = drift.energy_test(rows[:4], rows[4:], 20_000, generator)
    assert statistic == pytest.approx(observed, rel=1e-5)
    assert p == pytest.approx(exact, abs=0.012)


def test_no_relabelling_as_far_apart_gives_the_smallest_p() -> None:
    a, b = np.zeros((20, 1), np.float32), np.ones((20, 1), np.float32)
    assert drift.energy_test(a, b, 199, np.random.default_rng(0))[1] == pytest.approx(1 / 200)


def test_nearest_against_loops_and_leaving_itself_out() -> None:
    generator = np.random.default_rng(0)
    memory = generator.normal(size=(2 * drift._AT_ONCE + 5, 4)).astype(np.float32)
    distances = np.sqrt(((memory[:, None].astype(float) - memory[None]) ** 2).sum(2))
    everyone = np.arange(len(memory))
    assert drift.nearest_distances(memory, memory, 2, everyone) == pytest.approx(
        np.sort(distances)[:, 1:3].mean(1), abs=1e-4
    )
    queries = memory[7:9] + np.float32(0.1)
    closest = [np.sort(np.sqrt(((memory - query) ** 2).sum(1)))[:3].mean() for query in queries]
    assert drift.nearest_distances(memory, queries, 3) == pytest.approx(closest, abs=1e-4)


def test_holm_by_hand() -> None:
    assert drift.holm([0.03, 0.001, 0.04, 0.5]) == pytest.approx([0.09, 0.004, 0.09, 0.5])
    assert drift.holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])


@pytest.mark.parametrize(("n", "m"), [(60, 20), (30, 30)])
def test_false_alarms_come_at_the_level(n: int, m: int) -> None:
    """250 draws at 0.1: 25 are expected at most (Holm), 40 come by chance once in a thousand; and not none."""
    config = DriftConfig(level=0.1, permutations=99)
    generator = np.random.default_rng(n)
    alarms = sum(drift.compare(made(generator, n), made(generator, m), config, i).drifted for i in range(250))
    assert 8 <= alarms <= 40


@pytest.mark.parametrize("test", ["brightness", "sharpness", "features"])
def test_what_changed_is_named_with_its_size(test: str) -> None:
    training, new = two()
    shift = {"brightness": {"brightness": -0.2}, "sharpness": {"sharpness": 0.2}, "features": {"features": 1.5}}[test]
    result = drift.compare(training, changed(new, **shift), DriftConfig(), 0)
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
    assert drift._feature_effect(old, new) == pytest.approx(0, abs=0.12)
    assert drift._feature_effect(old, new + np.float32(0.5)) == pytest.approx(0.5, abs=0.1)


def test_images_that_scatter_more_lie_farther_away_though_their_mean_is_the_same() -> None:
    training, new = two()
    result = drift.compare(training, Descriptors(3 * new.features, new.brightness, new.sharpness), DriftConfig(), 0)
    assert by_name(result)["distance"].found
    assert "farther from the nearest training images" in by_name(result)["distance"].describe()


def test_the_same_kind_is_no_drift_and_says_no_difference() -> None:
    result = drift.compare(*two(), DriftConfig(), 0)
    assert not result.drifted
    assert result.lines()[0] == "no drift shown: 30 new images against 80 of training, level 0.01"
    assert all("no difference shown" in line for line in result.lines()[1:])


def test_same_bytes_twice_and_the_seed_counts() -> None:
    texts = [json.dumps(drift.compare(*two(), DriftConfig(), seed).to_json(), allow_nan=False) for seed in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]
    read = json.loads(texts[0])
    assert read["drifted"] is False and [finding["name"] for finding in read["findings"]] == list(drift.TESTS)


def test_every_parameter_counts() -> None:
    training, new = two()
    new = changed(new, brightness=0.025)

    def compared(**changes: float) -> drift.Drift:
        return drift.compare(training, new, DriftConfig(**changes), 0)  # type: ignore[arg-type]

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
    result = drift.compare(training, new, DriftConfig(), 0)
    assert (result.drifted, result.findings) == (False, ())
    assert result.lines() == ["drift not tested: 11 new images, fewer than 12 (drift.least)"]
    assert "11 training images" in drift.compare(new, training, DriftConfig(), 0).reason


def test_more_neighbours_than_training_images_means_all_of_them() -> None:
    result = drift.compare(*two(20, 20), DriftConfig(neighbours=1000), 0)
    assert by_name(result)["distance"].p_value > 0


def test_only_so_many_are_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MAX_COMPARED", 40)
    sizes: list[tuple[int, int]] = []
    plain = drift.energy_test

    def seen(a, b, *rest):  # type: ignore[no-untyped-def]
        sizes.append((len(a), len(b)))
        return plain(a, b, *rest)

    monkeypatch.setattr(drift, "energy_test", seen)
    training, new = two(100, 90)
    assert not drift.compare(training, new, DriftConfig(), 0).drifted
    assert drift.compare(training, changed(new, features=1.5), DriftConfig(), 0).drifted
    assert sizes == [(40, 40)] * 2


def test_what_never_varies_in_training() -> None:
    training, new = two()
    flat = Descriptors(np.full_like(training.features, 0.1), np.full(80, 0.3), training.sharpness)
    same = Descriptors(np.full_like(new.features, 0.1), np.full(30, 0.3), new.sharpness)
    assert not drift.compare(flat, same, DriftConfig(), 0).drifted
    findings = by_name(drift.compare(flat, changed(same, features=1, brightness=0.1), DriftConfig(), 0))
    assert findings["features"].found and findings["brightness"].found
    assert findings["brightness"].effect is None and findings["features"].effect is None
    assert "all training images are equal in it" in findings["brightness"].describe()


def test_bad_input_is_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(UserError, match="training images have 8 channels, new images 5"):
        drift.compare(made(generator, 20), made(generator, 20, 5), DriftConfig(), 0)
    with pytest.raises(ValidationError, match="set permutations to 399 or more"):
        DriftConfig(permutations=398)
    DriftConfig(permutations=399)
