"""Every objective on both networks: it learns, keeps to its seed, and resumes to the same bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from stages.backbone import pretrain
from stages.backbone.build import build
from stages.backbone.objectives.registry import OBJECTIVES
from stages.training import Session
from stages.types import Fitted
from tests.stages.backbone.conftest import textures
from tests.stages.backbone.objectives.conftest import tiny

SELF_DISTILLED = ("dino", "selfpatch", "sdssl")
K = 64


class Died(Exception):
    pass


def trained(model: str, objective: str, seed: int = 0, session: Session | None = None, **changes: Any) -> Fitted:
    config = tiny(model, objective, **changes)
    return build(config, textures(12, 0), textures(4, 1), seed, session or Session())


@pytest.mark.parametrize("model", ["hybrid", "plain"])
@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_thirty_steps_lower_the_loss_and_nothing_collapses(
    model: str, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "STEPS_PER_EPOCH", 5)
    curve: list[dict[str, float]] = []
    session = Session(on_epoch=lambda _, values: curve.append(dict(values)))
    rate = 1e-3 if objective in SELF_DISTILLED else 3e-3
    trained(model, objective, session=session, steps=30, crops=32, lr=rate, mask_fraction=0.25)
    assert len(curve) == 6
    assert curve[-1]["train_loss"] < 0.95 * curve[0]["train_loss"]
    if objective in SELF_DISTILLED:
        name = "train_loss" if objective == "dino" else "train_class"
        assert curve[-1][name] < 0.95 * math.log(K)  # better than a student that has no idea
        assert curve[-1]["train_doubt"] < 0.9  # the teacher tells prototypes apart
        assert curve[-1]["train_usage"] > 0.5  # and not the same ones for each image
    if objective == "selfpatch":
        assert curve[-1]["train_patch"] < 0.99 * math.log(K)
    if objective == "sdssl":
        assert curve[-1]["train_blocks"] < 0.97 * math.log(K)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_the_seed_and_it_alone_decides(objective: str) -> None:
    first, again, other = (trained("plain", objective, seed, steps=2) for seed in (0, 0, 1))
    assert first.info["digest"] == again.info["digest"] and first.metrics == again.metrics
    assert first.info["digest"] != other.info["digest"]


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_a_killed_training_resumes_to_the_same_bytes(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "STEPS_PER_EPOCH", 1)
    whole = trained("plain", objective, steps=4)

    def die(epoch: int, values: Any) -> None:
        if epoch == 2:
            raise Died

    with pytest.raises(Died):
        trained("plain", objective, steps=4, session=Session(checkpoint=tmp_path, on_epoch=die))
    seen: list[int] = []
    session = Session(checkpoint=tmp_path, on_epoch=lambda epoch, _: seen.append(epoch))
    resumed = trained("plain", objective, steps=4, session=session)
    assert seen == [0, 1, 2, 3]
    assert (resumed.info["digest"], resumed.metrics) == (whole.info["digest"], whole.metrics)


@pytest.mark.parametrize("objective", ["distill", "dino", "mfm"])
def test_the_cnn_within_the_hybrid_stays_as_it_is(objective: str) -> None:
    before = trained("hybrid", objective, steps=0).arrays
    after = trained("hybrid", objective, steps=1, crops=8, batch=4).arrays
    same = {name for name in before if before[name].tobytes() == after[name].tobytes()}
    assert {name for name in before if not name.startswith("trunk.")} <= same
    assert before.keys() == after.keys() and len(same) < len(before)


@pytest.mark.parametrize("objective", SELF_DISTILLED)
def test_the_weights_are_the_teachers_of_the_last_step(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    finish = OBJECTIVES[objective].finish

    def watched(self: Any) -> None:
        kept.update(done=int(self.done), token=self.teacher["encoder"].trunk.class_token.clone())
        kept.update(student=self.encoder.trunk.class_token.clone())
        finish(self)

    monkeypatch.setattr(OBJECTIVES[objective], "finish", watched)
    monkeypatch.setattr(pretrain, "STEPS_PER_EPOCH", 2)
    result = trained("plain", objective, steps=5)
    assert kept["done"] == 5 and result.metrics["best_epoch"] == 2
    assert result.arrays["trunk.class_token"].tolist() == kept["token"].tolist() != kept["student"].tolist()
