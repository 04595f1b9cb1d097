"""DVT's fit of one image as in its paper, by gradient steps: the slow reference for `least_squares`.

    y(v, p) = F(x(v, p)) + G(p) + r(y(v, p)),    F a multi-resolution grid and an MLP, G free, r an MLP

Adam on random (view, patch) pairs. In the first part of the steps the loss is |F + G - y|^2 (mean) + 1 - cos(F + G, y).
Then G is frozen, r joins, and the loss is the same of F + G + stop(r), plus 0.1 * |r - stop(y - F - G)|^2 + 0.02 * |r|
(means).

Source: Yang et al., "Denoising Vision Transformers", ECCV 2024, section 4.1, equations 5 to 8, and its published
settings. Deviations:
- The capacity of F matches the number of tokens (defaults of `NeuralFieldConfig`): the paper's table has more features
  than 20 views have tokens.
- Tokens are divided by one scalar, their spread, so that the loss does not depend on a backbone's units.
- F starts at the mean token, which Adam takes hundreds of steps to reach if channels are far from 0.
- The constant of G goes to F, so that G has mean 0 as in `least_squares`.
- True patch centres (see `views`).

Legend: V views, h x w grid, P = h * w, M = V * P tokens, C channels, B tokens per step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.denoise.config import DenoiseConfig, NeuralFieldConfig
from stages.denoise.per_image.decomposition import Decomposition, Floats, check_tokens
from stages.denoise.per_image.least_squares import held_out_count, robust_weights
from stages.denoise.per_image.neural_modules import FieldNetwork, Levels, NetworkField, residual_network
from stages.torch_setup import one_thread

BETAS, EPSILON = (0.9, 0.99), 1e-15
"""Adam's settings (the paper's, like all constants here)."""
RATE_END = 0.1
"""Learning rate of the last step, as a share of the peak."""
WARMUP = 0.1
"""Share of the steps with rising learning rate."""
ARTIFACT_SPREAD = 0.02
"""G starts as N(0, this)."""
RESIDUAL_FIT, RESIDUAL_SIZE = 0.1, 0.02
"""Weights of |r - stop(y - F - G)|^2 and of |r|."""
ROBUST = 6.0
"""c of the weights in `held_out_r2`: the default of `least_squares`, so that the values are comparable."""


def solve(
    tokens: Floats,
    coords: NDArray[np.float64],
    grid: tuple[int, int],
    config: DenoiseConfig,
    name: str = "image",
    seed: int = 0,
    device: str = "cpu",
) -> Decomposition:
    """Split the tokens (V, h, w, C), float32 or float64, at `coords` (V, h, w, 2) in [0, 1]^2 (row, column).

    With `config.held_out` the last views only measure and are never fitted, since a second fit with them would cost as
    much as the first. With 0, all views are fitted. On a CPU the same seed gives the same bytes; torch's default
    generator is unchanged.
    Diagnostics: `held_out_r2` (share of the held-out tokens' variance that F + G explain, with the robust weights of
    `least_squares`, here from the residuals of this fit; None without held-out views or variance), `loss` (of the last
    step).

    Args:
        name: the image, for messages.

    Raises:
        UserError: tokens that are not finite, or too few views.
        ValueError: shapes that do not match.
    """
    check_tokens(tokens, coords, grid, name)
    held_out = held_out_count(len(tokens), config, name)
    values = np.ascontiguousarray(tokens, np.float32)
    with one_thread(), torch.random.fork_rng():
        fitted, loss = _fit(
            values[: len(tokens) - held_out], coords[: len(tokens) - held_out], config.neural_field, seed, device
        )
    residual = np.linalg.norm(values - fitted.field(coords) - fitted.artifact, axis=-1).astype(np.float32)
    return Decomposition(
        F=fitted.field,
        G=fitted.artifact,
        residual=residual,
        diagnostics={"held_out_r2": held_out_r2(values, residual, held_out), "loss": loss},
    )


def held_out_r2(values: NDArray[np.float32], residual: NDArray[np.float32], held_out: int) -> float | None:
    """R^2 of F + G on the last `held_out` views (V, h, w, C), from the residual norms (V, h, w) of all views."""
    if not held_out:
        return None
    weights = robust_weights(residual.astype(np.float64), ROBUST)
    mean = np.average(values[:-held_out], axis=(0, 1, 2), weights=weights[:-held_out])

    def energy(norms: NDArray[np.floating]) -> float:
        return float((weights[-held_out:] * norms.astype(np.float64) ** 2).sum())

    total = energy(np.linalg.norm(values[-held_out:] - mean, axis=-1))
    if total <= 1e-10 * energy(np.linalg.norm(values[-held_out:], axis=-1)):  # constant tokens, but for rounding
        return None
    return 1 - energy(residual[-held_out:]) / total


@dataclass(frozen=True)
class _Fitted:
    field: NetworkField
    artifact: NDArray[np.float32]
    """(h, w, C), mean 0."""


def _fit(
    values: NDArray[np.float32], coords: NDArray[np.float64], config: NeuralFieldConfig, seed: int, device: str
) -> tuple[_Fitted, float]:
    """F and G for the tokens (V, h, w, C), and the last step's loss."""
    _, height, width, channels = values.shape
    scale = spread(values)
    levels = Levels.for_grid((height, width), config)
    index, weight = levels.corners(coords.reshape(-1, 2))  # (V, h, w, 2) -> (M, 2)
    scaled = torch.from_numpy(values.reshape(-1, channels) / np.float32(scale))  # (V, h, w, C) -> (M, C)
    torch.manual_seed(seed)
    model = Model(levels, height * width, scaled.mean(0), config).to(device)
    data = _Data(
        values=scaled.to(device),
        index=torch.from_numpy(index).to(device),
        weight=torch.from_numpy(weight).to(device),
        position=torch.arange(height * width).repeat(len(values)).to(device),
    )
    loss = _optimise(model, data, config, torch.Generator().manual_seed(seed))
    model.cpu()
    artifact = model.artifact.detach().numpy() * np.float32(scale)  # (P, C)
    constant = artifact.mean(0)
    field = NetworkField(model.field, levels, scale, constant)
    return _Fitted(field, (artifact - constant).reshape(height, width, channels)), loss


def spread(values: NDArray[np.float32]) -> float:
    """Median distance of the tokens (V, h, w, C) to their mean token, over sqrt(C): high-norm tokens hardly change
    it."""
    distance = np.linalg.norm(values - values.mean((0, 1, 2)), axis=-1)
    return float(np.median(distance)) / math.sqrt(values.shape[-1]) or 1.0


@dataclass(frozen=True)
class _Data:
    """All tokens, and what is constant over the steps, on the device."""

    values: Tensor
    """(M, C), of spread 1."""
    index: Tensor
    """(M, L, 4) rows of the table."""
    weight: Tensor
    """(M, L, 4)."""
    position: Tensor
    """(M,) index in the grid, row * w + column."""

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random tokens (B, C), with their index, weight and position."""
        rows = torch.randint(len(self.values), (count,), generator=generator).to(self.values.device)
        return self.values[rows], self.index[rows], self.weight[rows], self.position[rows]


class Model(nn.Module):
    def __init__(self, levels: Levels, positions: int, mean: Tensor, config: NeuralFieldConfig) -> None:
        """`mean` (C,) is the token that F starts at."""
        super().__init__()
        channels = len(mean)
        self.field = FieldNetwork(levels, mean, config)
        self.artifact = nn.Parameter(torch.randn(positions, channels) * ARTIFACT_SPREAD)
        self.residual = residual_network(channels, config)

    def loss(self, batch: tuple[Tensor, Tensor, Tensor, Tensor], cosine_weight: float, with_residual: bool) -> Tensor:
        target, index, weight, position = batch
        split = self.field(index, weight) + F.embedding(position, self.artifact)  # (B, C)
        if not with_residual:
            return distance(split, target, cosine_weight)
        residual = self.residual(target)
        residual_fit = F.mse_loss(residual, (target - split).detach())
        total = distance(split + residual.detach(), target, cosine_weight)
        return total + RESIDUAL_FIT * residual_fit + RESIDUAL_SIZE * residual.abs().mean()


def distance(values: Tensor, target: Tensor, cosine_weight: float) -> Tensor:
    """Mean squared error plus 1 - cosine (written out: half the time of torch's own function, which was a tenth of a
    step)."""
    sizes = values.norm(dim=-1) * target.norm(dim=-1)
    cosine = (values * target).sum(-1) / sizes.clamp_min(1e-8)
    return F.mse_loss(values, target) + cosine_weight * (1 - cosine.mean())


def _optimise(model: Model, data: _Data, config: NeuralFieldConfig, generator: torch.Generator) -> float:
    """Train in place; returns the last step's loss."""
    optimizer = torch.optim.Adam(
        model.parameters(), lr=1.0, betas=BETAS, eps=EPSILON, weight_decay=config.weight_decay, fused=True
    )
    frozen = round(config.artifact_steps * config.steps)
    loss = torch.zeros(())
    for step in range(config.steps):
        optimizer.param_groups[0]["lr"] = config.learning_rate * rate(step, config.steps)
        if step == frozen:
            model.artifact.requires_grad_(False)  # without a gradient Adam passes it over
        optimizer.zero_grad()
        loss = model.loss(data.sample(config.batch, generator), config.cosine_weight, step >= frozen)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def rate(step: int, steps: int) -> float:
    """Learning rate of a step, as a share of the peak: a linear rise, then a cosine to `RATE_END`."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    fraction = (step - warmup) / max(1, steps - 1 - warmup)
    return RATE_END + (1 - RATE_END) * (1 + math.cos(math.pi * fraction)) / 2
