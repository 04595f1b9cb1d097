"""The recovery: training the U-Net on good images, and the pixel maps of what it could not restore.

Legend: N images; B of them in a batch; S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.hint import NO_HINT, excise
from stages.detectors.ear.mask import random_blocks
from stages.detectors.ear.unet import UNet
from stages.detectors.shared.pixel_maps import PIXEL_KINDS, PixelKind, PixelStatistics, dissimilarity
from stages.detectors.shared.resizing import to_bytes
from stages.detectors.shared.similarity import gms, ssim
from stages.training import History, Session, Task, fit
from stages.types import batches

Pair = tuple[Tensor, Tensor]
"""(B, 3, S, S) images with the hint in the cut, and the original images, both in [0, 1]."""


@dataclass(frozen=True)
class Masked:
    """Images and their masks, in memory: 4 bytes per pixel."""

    images: NDArray[np.uint8]
    """(N, S, S, 3)."""
    masks: NDArray[np.bool_]
    """(N, S, S), true for the pixels that are cut out."""


class Recovery(Task):
    """Training with squared error + weighted 1 - GMS and 1 - SSIM over the whole image, as in RIAD and InTra."""

    def __init__(self, config: EarConfig) -> None:
        super().__init__()
        self.network = UNet(config.width, config.depth)
        self._config = config

    def loss(self, batch: Pair) -> dict[str, Tensor]:
        hinted, target = batch
        restored = self.network(hinted).float()
        with torch.autocast(restored.device.type, enabled=False):  # half precision is too coarse for variances
            return self._loss(restored, target)

    def _loss(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        l2 = (restored - target).square().mean()
        edges, structure = (1 - gms(restored, target)).mean(), (1 - ssim(restored, target)).mean()
        total = l2 + self._config.gms_weight * edges + self._config.ssim_weight * structure
        return {"loss": total, "l2": l2, "gms": edges, "ssim": structure}

    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        adam = torch.optim.Adam(self.parameters(), lr=self._config.lr)
        return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=steps)


def as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).contiguous()


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
        task = Recovery(config)
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


def _epoch(data: Masked, config: EarConfig, seed: int, epoch: int) -> Iterator[Pair]:
    order = np.random.default_rng([seed, epoch]).permutation(len(data.images))
    scales = scales_of(config)
    for step, rows in enumerate(batches(len(order), config.batch)):
        generator = np.random.default_rng([seed, epoch, step])
        chosen = order[rows]
        masks = data.masks[chosen]
        for i in np.flatnonzero(generator.random(len(chosen)) < config.random_mask_share):
            masks[i] = random_blocks(config.image_side, config.mask_fraction, generator)
        yield _pair(data.images[chosen], masks, generator.choice(scales, len(chosen)))


def _validation(data: Masked, config: EarConfig) -> Iterator[Pair]:
    """The images with their own masks, each image with the next scale."""
    scales = np.asarray(scales_of(config))
    for rows in batches(len(data.images), config.batch):
        turn = scales[np.arange(rows.start, rows.stop) % len(scales)]
        yield _pair(data.images[rows], data.masks[rows], turn)


def _pair(images: NDArray[np.uint8], masks: NDArray[np.bool_], scales: NDArray[np.int64]) -> Pair:
    target, holes = as_tensor(images), torch.from_numpy(masks)[:, None]  # (B, 3, S, S), (B, 1, S, S)
    hinted = target.clone()
    for scale in np.unique(scales):
        rows = torch.from_numpy(np.flatnonzero(scales == scale))
        hinted[rows] = excise(target[rows], holes[rows], int(scale))
    return hinted, target


def restore(network: UNet, image: Tensor, mask: Tensor, scale: int) -> tuple[Tensor, dict[PixelKind, Tensor]]:
    """One forward pass: (1, 3, S, S) image and (1, 1, S, S) mask -> its restoration, and its pixel maps (S, S) by kind.

    One image at a time: a convolution may sum in another order if the batch has another size.
    """
    device = next(network.parameters()).device
    with torch.inference_mode():
        image = image.to(device)
        restored = network(excise(image, mask.to(device), scale))
        return restored.cpu(), {kind: dissimilarity(image, restored, kind)[0, 0].cpu() for kind in PIXEL_KINDS}


def scale_errors(network: UNet, data: Masked, config: EarConfig) -> dict[int, float]:
    """Mosaic scale -> mean of 1 - MSGMS under the masks of validation images."""
    errors = {}
    for scale in scales_of(config):
        sums = np.zeros(2)
        for image, mask in zip(data.images, data.masks, strict=True):
            hole = torch.from_numpy(mask)
            _, differences = restore(network, as_tensor(image[None]), hole[None, None], scale)
            sums += float(differences["msgms"][hole].sum()), int(hole.sum())
        errors[scale] = float(sums[0] / sums[1])
    return errors


def restore_images(network: UNet, data: Masked, scale: int, statistics: PixelStatistics) -> NDArray[np.uint8]:
    """The restorations (N, S, S, 3) of the images, whose pixel maps are added to `statistics`."""
    restorations = np.empty_like(data.images)
    for i, (image, mask) in enumerate(zip(data.images, data.masks, strict=True)):
        restoration, maps = restore(network, as_tensor(image[None]), torch.from_numpy(mask)[None, None], scale)
        restorations[i] = to_bytes(restoration[0])
        statistics.add({kind: plane.numpy() for kind, plane in maps.items()})
    return restorations
