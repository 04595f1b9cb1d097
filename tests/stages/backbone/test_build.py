"""Building: same arguments same bytes, exact resume, every field counts, features free of the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.backbone import pretrain
from stages.backbone.build import build
from stages.backbone.config import BackboneConfig
from stages.backbone.networks.crops import to_pixels
from stages.backbone.networks.load import digest_of, load, network_for
from stages.training import Session
from stages.types import Fitted, UserError
from tests.stages.backbone.conftest import small, textures

OURS = ("hybrid", "plain", "cnn")
_BUILT: dict[str, Fitted] = {}


class Died(Exception):
    pass


def built(model: str) -> Fitted:
    """Each model once for the whole file."""
    if model not in _BUILT:
        _BUILT[model] = build(small(model=model), textures(5, 0), textures(2, 1), 0, Session())
    return _BUILT[model]


@pytest.mark.parametrize("model", OURS)
def test_the_same_arguments_give_the_same_bytes(model: str, train: Any, validation: Any) -> None:
    torch.manual_seed(5)  # the state of the default generator does not matter, and is left alone
    before = torch.get_rng_state()
    again = build(small(model=model), train, validation, 0, Session())
    assert torch.equal(before, torch.get_rng_state())
    assert (again.info, again.metrics) == (built(model).info, built(model).metrics)
    assert {n: a.tobytes() for n, a in again.arrays.items()} == {n: a.tobytes() for n, a in built(model).arrays.items()}


@pytest.mark.parametrize("model", ["hybrid", "plain"])
def test_a_killed_pretraining_resumes_to_the_same_bytes(
    model: str, train: Any, validation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "STEPS_PER_EPOCH", 1)
    whole = build(small(model=model), train, validation, 0, Session())

    def die(epoch: int, values: Any) -> None:
        if epoch == 2:
            raise Died

    with pytest.raises(Died):
        build(small(model=model), train, validation, 0, Session(checkpoint=tmp_path, on_epoch=die))
    assert (tmp_path / "last.ckpt").is_file()
    resumed = build(small(model=model), train, validation, 0, Session(checkpoint=tmp_path))
    assert resumed.info["digest"] == whole.info["digest"]
    assert resumed.metrics == whole.metrics
    assert len(whole.metrics["curve"]) == 3


BOTH_STACKED: dict[str, Any] = {"blocks": (1, 2), "join_blocks": "stack"}
CHANGES: list[tuple[str, str, Any]] = [
    ("hybrid", "image_side", 96),
    ("cnn", "patch", 8),
    ("hybrid", "depth", 1),
    ("hybrid", "blocks", (1,)),
    ("plain", "blocks", (1, 2)),
    ("hybrid", "heads", 2),
    ("plain", "width", 16),
    ("plain", "mlp_ratio", 1.0),
    ("hybrid", "layer_scale", 0.1),
    ("plain", "steps", 2),
    ("plain", "batch", 3),
    ("plain", "crops", 5),
    ("plain", "crop_side", 32),
    ("plain", "crop_scale", 0.9),
    ("plain", "mask_fraction", 0.0),
    ("plain", "class_weight", 0.0),
    ("plain", "lr", 0.01),
    ("plain", "weight_decay", 0.9),
]


@pytest.mark.parametrize(("model", "field", "value"), CHANGES)
def test_every_field_changes_the_features(model: str, field: str, value: Any) -> None:
    config = small(**{"model": model, field: value})
    other = build(config, textures(5, 0, config.image_side), textures(2, 1, config.image_side), 0, Session())
    backbone, before = load(other, "cpu"), load(built(model), "cpu")
    tokens = backbone.extract(textures(1, 2, config.image_side)).tokens
    assert not np.array_equal(tokens, before.extract(textures(1, 2)).tokens)
    assert other.info["digest"] != built(model).info["digest"]


def test_the_list_of_fields_is_whole() -> None:
    of_objectives = {
        "objective",
        "teacher",
        "teacher_checkpoint",
        "mixed_precision",
        "dino",
        "selfpatch",
        "sdssl",
        "mfm",
    }
    elsewhere = {"model", "checkpoint", "strides", "join_blocks"} | of_objectives  # objectives/test_fields.py
    assert {field for _, field, _ in CHANGES} | elsewhere == set(BackboneConfig.model_fields)


@pytest.mark.parametrize("model", ["hybrid", "plain"])
def test_a_block_before_the_last_gives_its_own_tokens_and_attention(model: str) -> None:
    first = build(small(model=model, blocks=(1,)), textures(5, 0), textures(2, 1), 0, Session())
    last = build(small(model=model, blocks=(2,)), textures(5, 0), textures(2, 1), 0, Session())
    assert first.arrays.keys() == built(model).arrays.keys()
    assert all(np.array_equal(a, built(model).arrays[n]) for n, a in first.arrays.items())  # trained in full
    assert first.info["architecture"] == {**built(model).info["architecture"], "blocks": [1], "join_blocks": "average"}
    images, network = textures(2, 2), network_for(small(model=model))
    network.load_state_dict({n: torch.from_numpy(a) for n, a in first.arrays.items()})
    with torch.inference_mode():
        x, weights = next(iter(network.trunk.states(network.patches(to_pixels(images)))))
        tokens = network.norm(x[:, 1:]) if model == "plain" else x[:, 1:]
    result = load(first, "cpu")
    features = result.extract(images)
    assert features.attention is not None and result.blocks == (1,)
    np.testing.assert_allclose(features.tokens.reshape(2, 16, -1), tokens, atol=1e-4)
    np.testing.assert_allclose(features.attention.reshape(2, -1, 16), weights[..., 1:], atol=1e-5)
    whole, same = load(built(model), "cpu"), load(last, "cpu")
    assert whole.blocks == same.blocks == (2,)
    assert whole.extract(images).tokens.tobytes() == same.extract(images).tokens.tobytes()


@pytest.mark.parametrize("model", OURS)
def test_the_interface_tells_how_pixels_are_normalised(model: str) -> None:
    """A picture of the mean alone is zero to the network, and one spread above it is one."""
    backbone, network = load(built(model), "cpu"), network_for(small(model=model))
    seen: list[torch.Tensor] = []
    entrance = network.embed if model == "plain" else network.cnn.stem
    entrance.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for above in (0.0, 1.0):
        picture = 255 * (torch.tensor(backbone.mean) + above * torch.tensor(backbone.std))
        network.patches(picture[None, :, None, None].expand(1, 3, 64, 64))
        torch.testing.assert_close(seen[-1], torch.full((1, 3, 64, 64), above), atol=1e-5, rtol=0)
    assert backbone.patch_size == 16 and backbone.registers == 0
    assert backbone.prefix_tokens == (0 if model == "cnn" else 1)
    assert backbone.blocks == (None if model == "cnn" else (2,))


def test_the_description_of_a_backbone_has_no_more_than_it_had() -> None:
    """It is part of the names of stored features: another key would make all of them anew."""
    info = built("hybrid").info
    assert set(info) == {"architecture", "digest", "image_side", "grid", "channels", "heads"}
    assert set(info["architecture"]) == {"model", "image_side", "patch", "depth", "heads", "mlp_ratio"}
    assert set(built("plain").info["architecture"]) == {*info["architecture"], "width"}
    assert set(built("cnn").info["architecture"]) == {"model", "image_side", "patch"}


def test_the_seed_changes_the_weights(train: Any, validation: Any) -> None:
    assert build(small(model="plain"), train, validation, 1, Session()).info["digest"] != built("plain").info["digest"]


@pytest.mark.parametrize("model", OURS)
def test_description_and_features_agree(model: str) -> None:
    backbone = load(built(model), "cpu")
    features = backbone.extract(textures(3, 2))
    assert features.tokens.shape == (3, *backbone.grid, backbone.channels) == (3, 4, 4, 32 if model == "plain" else 176)
    assert features.tokens.dtype == np.float32
    if model == "cnn":
        assert features.attention is None and backbone.heads == 0
    else:
        assert features.attention is not None and features.attention.shape == (3, backbone.heads, 4, 4)
        sums = features.attention.sum((2, 3))
        assert bool((sums > 0.5).all() and (sums < 1).all())
    assert backbone.extract(textures(0, 2)).tokens.shape == (0, *features.tokens.shape[1:])


def broad(model: str) -> Fitted:
    """At 96 px, where the number of threads shows in the last bits of the CNN."""
    if f"{model} 96" not in _BUILT:
        images = textures(2, 0, 96)
        _BUILT[f"{model} 96"] = build(small(model=model, image_side=96, steps=0), images, images, 0, Session())
    return _BUILT[f"{model} 96"]


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(OURS), st.lists(st.integers(0, 3), min_size=1, max_size=6), st.sampled_from([1, 2]))
@example("hybrid", [1, 0, 1], 2)
def test_features_do_not_depend_on_neighbours_place_or_threads(model: str, rows: list[int], threads: int) -> None:
    images, before = textures(4, 3, 96), torch.get_num_threads()
    backbone = load(broad(model), "cpu")
    try:
        torch.set_num_threads(1)
        alone = [backbone.extract(images[i : i + 1]) for i in range(4)]
        torch.set_num_threads(threads)
        together = backbone.extract(images[rows])
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for place, row in enumerate(rows):
        assert together.tokens[place].tobytes() == alone[row].tokens[0].tobytes()
        if together.attention is not None:
            assert together.attention[place].tobytes() == alone[row].attention[0].tobytes()  # type: ignore[index]


def test_the_cnn_is_kept_as_it_was_and_the_hybrid_starts_from_it(train: Any) -> None:
    untrained = build(small(steps=0, layer_scale=1e-6), train, train[:0], 0, Session())
    cnn = load(built("cnn"), "cpu").extract(textures(2, 2)).tokens
    hybrid = load(untrained, "cpu").extract(textures(2, 2)).tokens
    np.testing.assert_allclose(hybrid, cnn, atol=0.15)  # the position embedding, N(0, 0.02), is what differs
    for name, array in built("cnn").arrays.items():
        assert array.tobytes() == built("hybrid").arrays[name].tobytes(), name  # frozen: not an update


def test_cnn_tokens_are_standardised(train: NDArray[np.uint8]) -> None:
    tokens = load(built("cnn"), "cpu").extract(train).tokens.reshape(-1, 176)
    np.testing.assert_allclose(tokens.mean(0), 0, atol=1e-2)
    np.testing.assert_allclose(np.median(tokens.std(0)), 1, atol=1e-2)


def test_training_lowers_the_loss(train: Any, validation: Any) -> None:
    config = small(model="plain", steps=40, lr=3e-3, mask_fraction=0.25)
    curve = build(config, train, train, 0, Session()).metrics["curve"]
    assert curve[-1]["train_loss"] < 0.7 * curve[0]["train_loss"]


def test_changed_weights_are_noticed() -> None:
    arrays = {name: np.array(a) for name, a in built("cnn").arrays.items()}
    arrays["standardise.mean"] += 1
    with pytest.raises(UserError, match="run the stage `pretrain` again"):
        load(Fitted(arrays, built("cnn").info), "cpu")


def test_the_digest_sees_names_shapes_types_and_the_architecture() -> None:
    a = {"w": np.zeros((2, 3), np.float32)}
    others = [
        ({"v": a["w"]}, {"side": 1}),
        ({"w": a["w"].T}, {"side": 1}),
        ({"w": a["w"].view(np.int32)}, {"side": 1}),
        (a, {"side": 2}),
    ]
    assert len({digest_of(*pair) for pair in [(a, {"side": 1}), *others]}) == 5


def test_images_that_do_not_fit_are_told(train: Any, validation: Any) -> None:
    with pytest.raises(UserError, match="at least one good training image"):
        build(small(), train[:0], validation, 0, Session())
    with pytest.raises(UserError, match="at least one good validation image"):
        build(small(), train, validation[:0], 0, Session())
    with pytest.raises(UserError, match=r"image_side is 96, the training images are \(64, 64, 3\)"):
        build(small(image_side=96), train, validation, 0, Session())
    with pytest.raises(ValueError, match=r"\(B, 64, 64, 3\), not float32"):
        load(built("cnn"), "cpu").extract(train.astype(np.float32))  # type: ignore[arg-type]


def test_batches_in_half_precision_give_nearly_the_same_and_do_not_depend_on_their_number(train: Any) -> None:
    """The path of a GPU, taken on the CPU under another name."""
    backbone = load(built("hybrid"), "cpu")
    exact = backbone.extract(train)
    backbone._device = "cpu:0"
    result, few = backbone.extract(train), backbone.extract(train[:2])
    assert np.abs(result.tokens - exact.tokens).max() < 0.02 * np.abs(exact.tokens).max()
    assert result.attention is not None and few.attention is not None and exact.attention is not None
    assert np.abs(result.attention - exact.attention).max() < 0.01
    assert result.tokens.dtype == result.attention.dtype == np.float32
    assert few.tokens.tobytes() == result.tokens[:2].tobytes()
    assert few.attention.tobytes() == result.attention[:2].tobytes()


@pytest.mark.parametrize("model", ["hybrid", "plain"])
def test_several_blocks_are_averaged_or_stacked(model: str) -> None:
    """Against each block read alone, from the same weights; attention is the last block's."""
    images = textures(2, 2)
    one, two, both, stacked = (
        load(build(small(model=model, **fields), textures(5, 0), textures(2, 1), 0, Session()), "cpu")
        for fields in ({"blocks": (1,)}, {"blocks": (2,)}, {"blocks": (1, 2)}, BOTH_STACKED)
    )
    first, second = one.extract(images), two.extract(images)
    mean, stack = both.extract(images), stacked.extract(images)
    np.testing.assert_allclose(mean.tokens, (first.tokens + second.tokens) / 2, atol=1e-5)
    np.testing.assert_allclose(stack.tokens, np.concatenate([first.tokens, second.tokens], -1), atol=1e-5)
    assert stacked.channels == 2 * one.channels == stack.tokens.shape[-1] and both.channels == one.channels
    for features in (mean, stack):
        assert features.attention is not None and second.attention is not None
        np.testing.assert_allclose(features.attention, second.attention, atol=1e-6)


def test_a_backbone_of_before_with_one_block_is_still_read() -> None:
    fitted = build(small(model="plain", blocks=(1,)), textures(5, 0), textures(2, 1), 0, Session())
    now = fitted.info["architecture"]
    before = {name: value for name, value in now.items() if name not in ("blocks", "join_blocks")} | {"block": 1}
    old = Fitted(fitted.arrays, {**fitted.info, "architecture": before, "digest": digest_of(fitted.arrays, before)})
    images = textures(1, 2)
    assert load(old, "cpu").extract(images).tokens.tobytes() == load(fitted, "cpu").extract(images).tokens.tobytes()
