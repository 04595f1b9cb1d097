"""The recovery: training the U-Net on good images, and one restoration.

Legend: N images; B of them in a batch; S side in pixels or tokens; Z channels of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.hint import NO_HINT, excise
from stages.detectors.ear.mask import random_blocks
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.pixel_maps import dissimilarity
from stages.detectors.shared.similarity import gms, ssim
from stages.training import History, Session, Task, fit
from stages.types import batches

Cut = tuple[Tensor, Tensor, Tensor]
"""(B, Z, S, S) images with the hint in the cut, the original images, and (B, 1, S, S) bool, true in the cut."""


@dataclass(frozen=True)
class Masked:
    """Images and their masks, in memory."""

    images: NDArray[Any]
    """(N, S, S, Z) uint8 pixels or float16 reduced tokens."""
    masks: NDArray[np.bool_]
    """(N, S, S), true for what is cut out."""


class Recovery(Task):
    """Training in pixels with squared error + weighted 1 - GMS and 1 - SSIM over the whole image, as in RIAD and InTra;
    in tokens with the squared error in the cut."""

    def __init__(self, config: EarConfig, channels: int) -> None:
        super().__init__()
        self.network = new_network(config, channels)
        self._config = config

    def loss(self, batch: Cut) -> dict[str, Tensor]:
        hinted, target, holes = batch
        restored = self.network(hinted).float()
        with torch.autocast(restored.device.type, enabled=False):  # half precision is too coarse for variances
            return (
                self._of_pixels(restored, target)
                if self._config.space == "pixels"
                else _of_tokens(restored, target, holes)
            )

    def _of_pixels(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        l2 = (restored - target).square().mean()
        edges, structure = (1 - gms(restored, target)).mean(), (1 - ssim(restored, target)).mean()
        total = l2 + self._config.gms_weight * edges + self._config.ssim_weight * structure
        return {"loss": total, "l2": l2, "gms": edges, "ssim": structure}

    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        adam = torch.optim.Adam(self.parameters(), lr=self._config.lr)
        return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=steps)


def _of_tokens(restored: Tensor, target: Tensor, holes: Tensor) -> dict[str, Tensor]:
    squares = (restored - target).square() * holes
    return {"loss": squares.sum() / (holes.sum() * target.shape[1])}


def new_network(config: EarConfig, channels: int) -> UNet:
    """A network with new weights, from PyTorch's generator."""
    return UNet(config.width, config.depth, channels, config.space == "pixels")


def as_tensor(images: NDArray[Any]) -> Tensor:
    """(B, S, S, Z) uint8 pixels or reduced tokens -> (B, Z, S, S) float, pixels in [0, 1]."""
    values = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
    return (values / 255 if images.dtype == np.uint8 else values).contiguous()


def scales_of(config: EarConfig) -> tuple[int, ...]:
    """The mosaic scales to train with, finest first; `NO_HINT` alone without a mosaic."""
    return tuple(sorted(config.mosaic_scales)) if config.hint == "mosaic" else (NO_HINT,)


def train(training: Masked, validation: Masked, config: EarConfig, seed: int, session: Session) -> tuple[UNet, History]:
    """Train one network for all candidate scales: each image of a batch gets a scale at random.

    One network per scale would cost as many trainings. A single network sees every scale, and the scale is then
    chosen on validation images with the network that is deployed (`scale_errors`).
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        task = Recovery(config, training.images.shape[-1])
    history = fit(
        task,
        partial(_epoch, training, config, seed),
        partial(_validation, validation, config),
        steps_per_epoch=-(-len(training.images) // config.batch),
        epochs=config.epochs,
        patience=config.patience,
        seed=seed,
        session=session,
        mixed_precision=config.mixed_precision,
    )
    return task.network, history


def _epoch(data: Masked, config: EarConfig, seed: int, epoch: int) -> Iterator[Cut]:
    order = np.random.default_rng([seed, epoch]).permutation(len(data.images))
    scales = scales_of(config)
    for step, rows in enumerate(batches(len(order), config.batch)):
        generator = np.random.default_rng([seed, epoch, step])
        chosen = order[rows]
        masks = data.masks[chosen]
        for i in np.flatnonzero(generator.random(len(chosen)) < config.random_mask_share):
            masks[i] = random_blocks(masks.shape[1], config.mask_fraction, generator)
        yield _cut(data.images[chosen], masks, generator.choice(scales, len(chosen)))


def _validation(data: Masked, config: EarConfig) -> Iterator[Cut]:
    """The images with their own masks, each image with the next scale."""
    scales = np.asarray(scales_of(config))
    for rows in batches(len(data.images), config.batch):
        turn = scales[np.arange(rows.start, rows.stop) % len(scales)]
        yield _cut(data.images[rows], data.masks[rows], turn)


def _cut(images: NDArray[Any], masks: NDArray[np.bool_], scales: NDArray[np.int64]) -> Cut:
    target, holes = as_tensor(images), torch.from_numpy(masks)[:, None]  # (B, Z, S, S), (B, 1, S, S)
    hinted = target.clone()
    for scale in np.unique(scales):
        rows = torch.from_numpy(np.flatnonzero(scales == scale))
        hinted[rows] = excise(target[rows], holes[rows], int(scale))
    return hinted, target, holes


@torch.inference_mode()
def restore(network: UNet, image: Tensor, mask: Tensor, scale: int) -> Tensor:
    """One forward pass: (1, Z, S, S) image and (1, 1, S, S) mask -> its restoration.

    One image at a time: a convolution may sum in another order if the batch has another size.
    """
    device = next(network.parameters()).device
    restored: Tensor = network(excise(image.to(device), mask.to(device), scale))
    return restored.cpu()


def scale_errors(network: UNet, data: Masked, config: EarConfig) -> dict[int, float]:
    """Mosaic scale -> mean error under the masks of validation images: 1 - MSGMS of pixels, squared error of tokens."""
    errors = {}
    for scale in scales_of(config):
        sums = np.zeros(2)
        for image, mask in zip(data.images, data.masks, strict=True):
            target, hole = as_tensor(image[None]), torch.from_numpy(mask)
            restored = restore(network, target, hole[None, None], scale)
            squares = (restored - target).square().mean(dim=1)
            error = dissimilarity(target, restored, "msgms")[:, 0] if config.space == "pixels" else squares
            sums += float(error[0][hole].sum()), int(hole.sum())
        errors[scale] = float(sums[0] / sums[1])
    return errors
