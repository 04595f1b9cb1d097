"""Every field of the objectives changes the weights; precision reaches the trainer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stages import lightning_loop
from stages.backbone import pretrain
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.objectives.config import DinoConfig, MfmConfig, SdsslConfig, SelfpatchConfig
from stages.backbone.objectives.registry import OBJECTIVES
from stages.training import Session
from tests.stages.backbone.conftest import textures
from tests.stages.backbone.objectives.conftest import network_of, tiny

_DIGESTS: dict[str, str] = {}


def digest(objective: str, **changes: Any) -> str:
    key = f"{objective} {changes}"
    if key not in _DIGESTS:
        config = tiny("plain", objective, steps=3, depth=3, **changes)
        _DIGESTS[key] = build(config, textures(5, 0), textures(2, 1), 0, Session()).info["digest"]
    return _DIGESTS[key]


CHANGES: list[tuple[str, str, str, Any]] = [
    ("dino", "dino", "global_views", 3),
    ("dino", "dino", "local_pool", 2),
    ("dino", "dino", "local_views", 1),
    ("dino", "dino", "local_side", 64),
    ("dino", "dino", "local_scale", 0.5),
    ("dino", "dino", "jitter", 0.5),
    ("dino", "dino", "blur", 1.0),
    ("dino", "dino", "prototypes", 32),
    ("dino", "dino", "hidden", 32),
    ("dino", "dino", "bottleneck", 32),
    ("dino", "dino", "momentum", 0.5),
    ("dino", "dino", "centre_momentum", 0.5),
    ("dino", "dino", "student_temperature", 0.2),
    ("dino", "dino", "teacher_temperature", 0.1),
    ("dino", "dino", "first_temperature", 0.03),
    ("selfpatch", "selfpatch", "neighbours", 2),
    ("selfpatch", "selfpatch", "weight", 1.0),
    ("selfpatch", "selfpatch", "prototypes", 32),
    ("selfpatch", "selfpatch", "blocks", 2),
    ("selfpatch", "dino", "prototypes", 32),
    ("sdssl", "sdssl", "ratio", 0.5),
    ("sdssl", "sdssl", "first_block", 2),
    ("sdssl", "dino", "momentum", 0.5),
    ("mfm", "mfm", "radius", 0.2),
    ("mfm", "mfm", "low_pass", 0.0),
]


@pytest.mark.parametrize(("objective", "section", "field", "value"), CHANGES)
def test_every_field_changes_the_weights(objective: str, section: str, field: str, value: Any) -> None:
    assert digest(objective, **{section: {field: value}}) != digest(objective)


def test_the_warm_up_of_the_temperature_changes_the_weights() -> None:
    rising = {"first_temperature": 0.04, "teacher_temperature": 0.1}
    slowly = digest("dino", dino={**rising, "temperature_warmup": 1.0})
    assert slowly != digest("dino", dino={**rising, "temperature_warmup": 0.0})


def test_the_list_of_fields_is_whole() -> None:
    sections = {"dino": DinoConfig, "selfpatch": SelfpatchConfig, "sdssl": SdsslConfig, "mfm": MfmConfig}
    listed = {(section, field) for _, section, field, _ in CHANGES} | {("dino", "temperature_warmup")}
    assert listed == {(name, field) for name, config in sections.items() for field in config.model_fields}


def test_the_objectives_differ() -> None:
    assert len({digest(objective) for objective in OBJECTIVES}) == 5


@pytest.mark.parametrize("wanted", [True, False])
def test_precision_reaches_the_trainer(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def stop(*_: Any, **options: Any) -> None:
        seen.update(options)
        raise InterruptedError

    monkeypatch.setattr(lightning_loop.pl, "Trainer", stop)
    for device in ("cuda", "cpu"):
        with pytest.raises(InterruptedError):
            config = tiny("plain", "mfm", mixed_precision=wanted)
            build(config, textures(2, 0), textures(2, 1), 0, Session(device=device))
        expected = "16-mixed" if wanted and device == "cuda" else "32-true"
        assert seen["precision"] == expected


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_in_half_precision_the_loss_is_nearly_the_same(objective: str) -> None:
    """The path of a GPU, taken on the CPU with bfloat16."""
    config = tiny("plain", objective)
    kind, network = OBJECTIVES[objective], network_of(config)
    pool = kind.pool_sampler(network, config)(textures(4, 0), 8, 0)
    torch.manual_seed(0)
    task = kind(network, pool, config)
    batch = task.batch(pool, torch.arange(2), torch.Generator().manual_seed(0))
    exact = task.loss(batch)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        half = task.loss(batch)["loss"]
    assert half.dtype == torch.float32
    assert float(half.detach()) == pytest.approx(float(exact.detach()), rel=0.05)
    half.backward()
    assert all(bool(p.grad.isfinite().all()) for p in task.parameters() if p.grad is not None)


def test_a_step_takes_as_many_full_crops_as_a_batch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, tuple[int, ...]] = {}

    def watched(task: Any, train: Any, *_: Any, **__: Any) -> None:
        seen[task.config.objective] = tuple(next(iter(train(0)))[0].shape[:2])
        raise InterruptedError

    monkeypatch.setattr(pretrain, "fit", watched)
    for objective in ("mfm", "dino"):
        with pytest.raises(InterruptedError):
            build(tiny("plain", objective, batch=6), textures(4, 0), textures(2, 1), 0, Session())
    assert seen == {"mfm": (6, 3), "dino": (3, 2)}
    assert BackboneConfig(objective="dino", batch=3).batch == 3  # an odd one takes one image's two views
