"""DVT step 2: a transformer block that removes the positional artifact from the tokens of a whole image.

It is trained on pairs (raw tokens of the whole image -> clean tokens of step 1) with MSE + (1 - cosine). At inference
it is one more block after the frozen backbone.

Source: Yang et al., "Denoising Vision Transformers", ECCV 2024, section 4.2. Deviations, because there are dozens of
pairs here and not thousands, and backbones that are no ViTs:
- It starts as "raw minus the mean artifact": the position embedding starts as the mean over the training pairs of clean
  - raw instead of N(0, 0.02), and the output layers of attention and MLP start at 0 (measured in README.md).
- Tokens are divided by one scalar, their standard deviation over the training pairs, so that the loss does not depend
  on a backbone's units.
- The learning rate is a parameter.

Legend: B images; h, w patch grid; C channels; H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.denoise.config import DenoiserConfig, heads_for
from stages.torch_setup import one_thread
from stages.training import Session, Task, fit, warmup_cosine
from stages.types import Fitted, Rows, UserError, batches

FINAL_RATE = 1e-6
"""Learning rate at the end of the cosine (the paper's)."""


class Block(nn.Module):
    """A pre-norm transformer block that starts as the identity."""

    def __init__(self, channels: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        hidden = round(channels * mlp_ratio)
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.up = nn.Linear(channels, hidden)
        self.down = nn.Linear(hidden, channels)
        for layer in (self.qkv, self.up):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for layer in (self.out, self.down):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, h*w, C) -> the same shape."""
        batch, count, channels = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, count, 3, self.heads, channels // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (3, B, H, h*w, C/H)
        mixed = F.scaled_dot_product_attention(query, key, value)  # (B, H, h*w, C/H)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, channels))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Denoiser(nn.Module):
    """Position embedding, then transformer blocks."""

    def __init__(self, grid: tuple[int, int], channels: int, heads: int, mlp_ratio: float, blocks: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, channels, *grid))  # (1, C, h, w)
        self.blocks = nn.ModuleList(Block(channels, heads, mlp_ratio) for _ in range(blocks))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, h, w, C). For a grid other than the trained one the position embedding is resampled."""
        position: Tensor = self.position
        if position.shape[2:] != tokens.shape[1:3]:
            position = F.interpolate(position, tuple(tokens.shape[1:3]), mode="bicubic", align_corners=False)
        x = (tokens + position.permute(0, 2, 3, 1)).flatten(1, 2)  # (B, h, w, C) -> (B, h*w, C)
        for block in self.blocks:
            x = block(x)
        return x.reshape(tokens.shape)


class _DenoiserTask(Task):
    def __init__(self, network: nn.Module, config: DenoiserConfig) -> None:
        super().__init__()
        self.network, self._config = network, config

    def loss(self, batch: Any) -> dict[str, Tensor]:
        raw, clean = batch
        output = self.network(raw)
        squared = F.mse_loss(output, clean)
        cosine = 1 - F.cosine_similarity(output, clean, dim=-1).mean()
        return {"loss": squared + self._config.cosine_weight * cosine, "mse": squared, "cosine": cosine}

    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        config = self._config
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        warmup = max(1, round(steps * config.warmup)) if config.warmup else 0
        minimum = min(1.0, FINAL_RATE / config.learning_rate)
        return optimizer, warmup_cosine(optimizer, steps, warmup, minimum)


def train_denoiser(
    raw: Rows, denoised: Rows, config: DenoiserConfig, seed: int, session: Session | None = None
) -> Fitted:
    """Train on pairs (N, h, w, C), one per image; a random share of the images is not trained on and chooses the epoch.

    Metrics: `history` (one entry per epoch), `best_epoch`, and losses on the validation images: `identity_loss` (of the
    raw tokens), `mean_artifact_loss` (of raw minus the mean artifact, the start), `validation_loss` (of the kept
    weights).

    Raises:
        UserError: fewer than two pairs; pairs that differ in shape or are not finite; heads that do not divide C.
    """
    inputs, targets = _checked_pairs(raw, denoised)
    order = np.random.default_rng(seed).permutation(len(inputs))
    held_out_count = min(len(order) - 1, max(1, round(len(order) * config.validation_share)))
    validation_rows, training_rows = np.sort(order[:held_out_count]), np.sort(order[held_out_count:])
    scale = float(targets[training_rows].std()) or 1.0
    x, y = torch.from_numpy(inputs / scale), torch.from_numpy(targets / scale)
    network = _build((x.shape[1], x.shape[2]), x.shape[3], config, seed)
    with torch.no_grad():
        network.position.copy_((y[training_rows] - x[training_rows]).mean(0).permute(2, 0, 1)[None])
    task = _DenoiserTask(network, config)
    steps = -(-len(training_rows) // config.batch)

    def train(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        shuffled = np.random.default_rng([seed, epoch]).permutation(training_rows)
        return ((x[shuffled[part]], y[shuffled[part]]) for part in batches(len(shuffled), config.batch))

    def validation() -> Iterator[tuple[Tensor, Tensor]]:
        return (
            (x[validation_rows[part]], y[validation_rows[part]]) for part in batches(len(validation_rows), config.batch)
        )

    metrics: dict[str, Any] = {
        "identity_loss": _mean_loss(_IdentityTask(config), validation),
        "mean_artifact_loss": _mean_loss(task, validation),
    }
    history = fit(
        task,
        train,
        validation,
        steps_per_epoch=steps,
        epochs=config.epochs,
        patience=config.patience,
        seed=seed,
        session=session or Session(),
    )
    metrics["validation_loss"] = _mean_loss(task, validation)
    return Fitted(
        arrays={name: value.numpy() for name, value in network.state_dict().items()},
        info={
            "grid": list(x.shape[1:3]),
            "channels": x.shape[3],
            "heads": heads_for(x.shape[3], config.heads),
            "mlp_ratio": config.mlp_ratio,
            "blocks": config.blocks,
            "scale": scale,
        },
        metrics={**metrics, "best_epoch": history.best_epoch, "history": history.epochs},
    )


def load_denoiser(fitted: Fitted, device: str) -> Denoiser:
    """The trained network; its input and output are tokens divided by `scale` of the model's `info`."""
    info = fitted.info
    with torch.random.fork_rng():
        grid = (info["grid"][0], info["grid"][1])
        network = Denoiser(grid, info["channels"], info["heads"], info["mlp_ratio"], info["blocks"])
    network.load_state_dict({name: torch.tensor(value) for name, value in fitted.arrays.items()})
    return network.to(device).eval()


def apply_denoiser(fitted: Fitted, device: str) -> Callable[[NDArray[np.floating]], NDArray[np.float32]]:
    """The trained denoiser as a function: raw (B, h, w, C) -> clean (B, h, w, C).

    Images are processed one by one, so the result of an image does not depend, to the byte, on the other images.
    """
    info, network = fitted.info, load_denoiser(fitted, device)

    def denoise(raw: NDArray[np.floating]) -> NDArray[np.float32]:
        if raw.ndim != 4 or raw.shape[3] != info["channels"]:
            raise ValueError(f"expected tokens (B, h, w, {info['channels']}), got {raw.shape}")
        clean = np.empty(raw.shape, np.float32)
        with torch.inference_mode(), one_thread():
            for row, image in zip(clean, raw, strict=True):
                tokens = torch.tensor(image, dtype=torch.float32, device=device)[None] / info["scale"]
                row[...] = (network(tokens)[0] * info["scale"]).cpu().numpy()
        return clean

    return denoise


class _IdentityTask(_DenoiserTask):
    """The task whose loss is that of the raw tokens."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(nn.Identity(), config)


def _build(grid: tuple[int, int], channels: int, config: DenoiserConfig, seed: int) -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Denoiser(grid, channels, heads_for(channels, config.heads), config.mlp_ratio, config.blocks)


def _mean_loss(task: _DenoiserTask, pairs: Callable[[], Iterator[tuple[Tensor, Tensor]]]) -> float:
    """Mean over images."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for raw, clean in pairs():
            total, count = total + len(raw) * float(task.loss((raw, clean))["loss"]), count + len(raw)
    return total / count


def _checked_pairs(raw: Rows, denoised: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both as float32 arrays, if they are pairs."""
    if raw.shape != denoised.shape:
        raise UserError(
            f"denoiser: raw tokens {raw.shape} and denoised tokens {denoised.shape} are no pairs; run denoise again"
        )
    if len(raw) < 2:
        raise UserError(
            f"denoiser: {len(raw)} denoised image(s), at least 2 are needed (one for validation); raise "
            "denoise.images, or see why denoise left images out"
        )
    inputs, targets = (np.asarray(rows[0 : len(rows)], dtype=np.float32) for rows in (raw, denoised))
    for name, values in (("raw", inputs), ("denoised", targets)):
        wrong = np.flatnonzero(~np.isfinite(values).all((1, 2, 3)))
        if len(wrong):
            raise UserError(
                f"denoiser: {len(wrong)} {name} maps hold NaN or infinite values, the first is row {wrong[0]}; "
                "run denoise again"
            )
    return inputs, targets
