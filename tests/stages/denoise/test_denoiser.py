"""DVT step 2: the network against torch's own layers, the training, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stages.denoise.config import DenoiserConfig
from stages.denoise.denoiser import Denoiser, apply_denoiser, train_denoiser
from stages.training import Session
from stages.types import UserError

SMALL = DenoiserConfig(epochs=6, batch=4, heads=2, patience=6)


def pairs(count=12, grid=(4, 5), channels=8, seed=0, strength=1.0):
    """clean: white tokens; raw: clean + an artifact by position, + something that depends on the token itself."""
    rng = np.random.default_rng(seed)
    artifact = strength * np.random.default_rng(99).standard_normal((*grid, channels))
    clean = rng.standard_normal((count, *grid, channels))
    return (clean + artifact + 0.3 * np.tanh(clean[..., ::-1])).astype(np.float32), clean.astype(np.float32)


def error(result, clean):
    return float(((result - clean) ** 2).mean())


def test_the_block_computes_what_a_transformer_block_computes():
    """Against torch's own pre-norm encoder layer with the same weights."""
    torch.manual_seed(0)
    network = Denoiser((3, 4), 8, heads=2, mlp_ratio=2.0, blocks=1)
    block = network.blocks[0]
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True)
    state = {
        "self_attn.in_proj_weight": block.qkv.weight, "self_attn.in_proj_bias": block.qkv.bias,
        "self_attn.out_proj.weight": block.out.weight, "self_attn.out_proj.bias": block.out.bias,
        "linear1.weight": block.up.weight, "linear1.bias": block.up.bias,
        "linear2.weight": block.down.weight, "linear2.bias": block.down.bias,
        "norm1.weight": block.norm1.weight, "norm1.bias": block.norm1.bias,
        "norm2.weight": block.norm2.weight, "norm2.bias": block.norm2.bias,
    }  # fmt: skip
    layer.load_state_dict(state)
    tokens = torch.randn(2, 3, 4, 8)
    placed = tokens + network.position[0].permute(1, 2, 0)
    expected = layer(placed.reshape(2, 12, 8)).reshape(2, 3, 4, 8)
    assert torch.allclose(network(tokens), expected, atol=1e-5)


def test_it_starts_as_raw_minus_the_mean_artifact_and_training_improves_on_it():
    raw, clean = pairs(32)
    fitted = train_denoiser(
        raw, clean, SMALL.model_copy(update={"epochs": 20, "patience": 20, "learning_rate": 5e-3}), 0
    )
    metrics = fitted.metrics
    assert metrics["identity_loss"] > 1.5 * metrics["mean_artifact_loss"]
    assert metrics["mean_artifact_loss"] > 1.3 * metrics["validation_loss"]
    other_raw, other_clean = pairs(10, seed=5)
    result = apply_denoiser(fitted, "cpu")(other_raw)
    assert error(result, other_clean) < 0.1 * error(other_raw, other_clean)
    assert len(metrics["history"]) == 20 and metrics["history"][metrics["best_epoch"]]["val_loss"] == pytest.approx(
        metrics["validation_loss"], rel=1e-4
    )


def test_same_arguments_same_bytes_and_every_parameter_counts():
    raw, clean = pairs()

    def run(seed=0, **options):
        fitted = train_denoiser(raw, clean, SMALL.model_copy(update={"epochs": 2} | options), seed)
        return b"".join(fitted.arrays[name].tobytes() for name in sorted(fitted.arrays))

    base = run()
    assert run() == base
    changes = [
        {"seed": 1}, {"epochs": 3}, {"batch": 3}, {"learning_rate": 1e-3}, {"weight_decay": 1.0}, {"warmup": 0.5},
        {"cosine_weight": 0.2}, {"mlp_ratio": 2.0}, {"validation_share": 0.5}, {"blocks": 0}, {"blocks": 2},
    ]  # fmt: skip
    for change in changes:
        assert run(**change) != base, change
    assert train_denoiser(raw, clean, SMALL.model_copy(update={"heads": 4}), 0).info["heads"] == 4


def test_without_a_block_the_mean_artifact_is_taken_off_and_no_more():
    raw, clean = pairs(12)
    fitted = train_denoiser(raw, clean, SMALL.model_copy(update={"blocks": 0, "learning_rate": 1e-6}), 0)
    taken = apply_denoiser(fitted, "cpu")(raw) - raw
    assert np.abs(taken - taken[0]).max() < 1e-5  # the same of every image
    assert np.abs(taken[0] - (clean - raw).mean(0)).max() < 0.3 * np.abs(taken[0]).max()


def test_patience_ends_training_early():
    raw, clean = pairs(6)
    config = SMALL.model_copy(update={"epochs": 30, "patience": 1, "learning_rate": 0.5, "warmup": 0.0})
    assert len(train_denoiser(raw, clean, config, 0).metrics["history"]) < 30


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path):
    raw, clean = pairs()
    whole = train_denoiser(raw, clean, SMALL, 0, Session(checkpoint=tmp_path / "whole"))

    class Killed(Exception):
        pass

    def kill(epoch, values):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_denoiser(raw, clean, SMALL, 0, Session(checkpoint=tmp_path / "cut", on_epoch=kill))
    seen = []
    resumed = train_denoiser(
        raw, clean, SMALL, 0, Session(checkpoint=tmp_path / "cut", on_epoch=lambda epoch, values: seen.append(epoch))
    )
    assert seen == list(range(6))
    assert all((resumed.arrays[name] == value).all() for name, value in whole.arrays.items())
    assert resumed.metrics == whole.metrics


def test_what_an_image_gets_does_not_depend_on_its_batch():
    raw, clean = pairs(9, grid=(7, 7), channels=24)
    denoise = apply_denoiser(train_denoiser(raw, clean, SMALL.model_copy(update={"epochs": 2}), 0), "cpu")
    whole = denoise(raw)
    assert whole.dtype == np.float32
    for row in range(9):
        assert denoise(raw[row : row + 1])[0].tobytes() == whole[row].tobytes()
    assert denoise(raw[:0]).shape == (0, 7, 7, 24)
    with pytest.raises(ValueError, match=r"expected tokens \(B, h, w, 24\)"):
        denoise(raw[..., :3])


def test_another_grid_gets_a_resampled_position_embedding():
    raw, clean = pairs(grid=(4, 4))
    fitted = train_denoiser(raw, clean, SMALL, 0)
    larger = np.repeat(np.repeat(raw, 2, axis=1), 2, axis=2)
    result = apply_denoiser(fitted, "cpu")(larger)
    assert result.shape == (12, 8, 8, 8)
    assert error(result, np.repeat(np.repeat(clean, 2, 1), 2, 2)) < error(
        larger, np.repeat(np.repeat(clean, 2, 1), 2, 2)
    )


def test_units_of_the_features_do_not_matter():
    raw, clean = pairs()
    small, large = (train_denoiser(raw * s, clean * s, SMALL, 0).metrics["validation_loss"] for s in (1.0, 64.0))
    assert small == pytest.approx(large, rel=1e-3)


def test_the_global_generator_is_left_alone():
    raw, clean = pairs()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    apply_denoiser(train_denoiser(raw, clean, SMALL, 0), "cpu")(raw)
    assert (torch.get_rng_state() == state).all()


def test_pairs_that_are_none_are_refused_with_their_values():
    raw, clean = pairs()
    with pytest.raises(UserError, match="1 denoised image"):
        train_denoiser(raw[:1], clean[:1], SMALL, 0)
    with pytest.raises(UserError, match=r"raw tokens \(12, 4, 5, 8\) and denoised tokens \(11, 4, 5, 8\)"):
        train_denoiser(raw, clean[:-1], SMALL, 0)
    clean[7, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="1 denoised maps hold NaN or infinite values, the first is row 7"):
        train_denoiser(raw, clean, SMALL, 0)
    with pytest.raises(UserError, match="heads = 3"):
        train_denoiser(raw, raw, SMALL.model_copy(update={"heads": 3}), 0)
