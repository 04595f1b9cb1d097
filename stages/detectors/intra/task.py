"""How InTra is trained: which windows, what loss, which optimiser (arXiv:2104.13897, sections 3.2 and 4.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from stages.detectors.intra import windows as win
from stages.detectors.intra.canvas import Canvas
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer
from stages.detectors.shared.similarity import gms, ssim
from stages.training import Task
from stages.types import batches

WindowBatch = tuple[Tensor, Tensor, Tensor]
"""(B, T, P) uint8 pixels or float16 tokens, (B, T) positions, (B,) covered patch."""
_VALIDATION = 2**31
"""Takes the place of the epoch in the seed of validation windows, so that they come from another random stream."""


class TrainingWindows:
    """The windows of every epoch. Each image has the same number; order, places and views are random.

    An image that is turned or mirrored keeps the positions of the grid: the network sees it as one more image. The
    images lie on the training's device, where windows are cut out: cut out on the CPU, they took a quarter of a step of
    the paper's network on an H100 (tests/benchmarks/README.md).
    """

    def __init__(self, images: win.Pixels, canvas: Canvas, config: IntraConfig, seed: int, device: str = "cpu") -> None:
        self._canvas, self._config, self._seed, self._device = canvas, config, seed, device
        self._images = torch.from_numpy(np.ascontiguousarray(images)).to(device)
        self._tables = torch.from_numpy(win.pixel_tables(canvas.side, canvas.patch)).to(device)
        turned = config.space == "pixels"
        self._views = win.views_allowed(turned and config.rotations, turned and config.flips)
        self.steps = math.ceil(len(images) * config.windows_per_image / config.batch)

    def epoch(self, number: int) -> Iterator[WindowBatch]:
        """Yield `steps` batches, a pure function of (seed, epoch). Each batch samples from (seed, epoch, step)."""
        turns = np.tile(np.arange(len(self._images)), self._config.windows_per_image)
        order = np.random.default_rng([self._seed, number]).permutation(turns)
        for step, part in enumerate(batches(len(order), self._config.batch)):
            yield self._step(order[part], np.random.default_rng([self._seed, number, step]))

    def _step(self, which: win.Index, rng: np.random.Generator) -> WindowBatch:
        windows = win.sample_windows(rng, len(which), self._canvas.grid, self._config.window_side)
        views = rng.choice(self._views, len(which))
        images, turned, positions, covered = (
            torch.from_numpy(index).to(self._device) for index in (which, views, windows.positions, windows.covered)
        )
        return win.gather(self._images, images, turned, positions, self._tables), positions, covered


def validation_batches(images: win.Pixels, canvas: Canvas, config: IntraConfig, seed: int) -> list[WindowBatch]:
    """Windows of the validation images, neither turned nor mirrored. All epochs share them, so that losses compare."""
    rng = np.random.default_rng([seed, _VALIDATION])
    tables = torch.from_numpy(win.pixel_tables(canvas.side, canvas.patch))
    which = torch.from_numpy(np.repeat(np.arange(len(images)), config.validation_windows))
    windows = win.sample_windows(rng, len(which), canvas.grid, config.window_side)
    positions, covered = torch.from_numpy(windows.positions), torch.from_numpy(windows.covered)
    pixels = win.gather(
        torch.from_numpy(np.ascontiguousarray(images)), which, torch.zeros_like(which), positions, tables
    )
    return [(pixels[part], positions[part], covered[part]) for part in batches(len(which), config.batch)]


class InpaintingTask(Task):
    """Training to paint the covered patch: squared error and, of pixels, alpha (1 - GMS) + beta (1 - SSIM), means over
    the patch."""

    def __init__(self, network: InpaintingTransformer, config: IntraConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config

    def loss(self, batch: WindowBatch) -> dict[str, Tensor]:
        """`loss` and, of pixels, its parts `l2`, `gms` and `ssim` (the last two as 1 - similarity)."""
        pixels, positions, covered = batch
        pixels = as_values(pixels)
        target = pixels[torch.arange(len(pixels), device=pixels.device), covered]  # (B, P)
        painted = self.network(pixels, positions, covered).float()
        with torch.autocast(painted.device.type, enabled=False):  # half precision is too coarse for variances
            if self._config.space == "tokens":
                return {"loss": torch.nn.functional.mse_loss(painted, target)}
            return painting_loss(painted, target, self._config)

    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Adam. The learning rate rises during the warm-up, then stays constant or falls to zero along a cosine."""
        config = self._config
        adam = torch.optim.Adam(self.network.parameters(), lr=config.lr)

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / max(1, config.warmup_steps))
            if config.schedule == "constant":
                return rise
            cosine_steps = max(1, steps - config.warmup_steps)
            progress = min(1.0, max(0, step - config.warmup_steps) / cosine_steps)
            return rise * 0.5 * (1 + math.cos(math.pi * progress))

        return adam, torch.optim.lr_scheduler.LambdaLR(adam, factor)


def as_values(patches: Tensor) -> Tensor:
    """What the network sees: uint8 pixels in [0, 1], tokens as they are."""
    return patches.float() / 255 if patches.dtype == torch.uint8 else patches.float()


def painting_loss(painted: Tensor, target: Tensor, config: IntraConfig) -> dict[str, Tensor]:
    """Loss of (B, P) painted patches against the (B, P) true patches, both in [0, 1] (section 3.2)."""
    a, b = (x.view(-1, config.patch_side, config.patch_side, 3).permute(0, 3, 1, 2) for x in (painted, target))
    l2 = torch.nn.functional.mse_loss(painted, target)
    unlike_gms, unlike_ssim = 1 - gms(a, b).mean(), 1 - ssim(a, b).mean()
    loss = l2 + config.alpha * unlike_gms + config.beta * unlike_ssim
    return {"loss": loss, "l2": l2, "gms": unlike_gms, "ssim": unlike_ssim}
