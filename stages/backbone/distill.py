"""DVT step 3: fine-tunes the backbone so that its own tokens equal what backbone and denoiser gave together.

Source: Yang et al., "Denoising Vision Transformers", ECCV 2024, section 4.3. The loss is the denoiser's: mean squared
error and cosine. Tokens are divided by one scalar, the standard deviation of the targets, so that the loss has no
units.

Legend: B images; S image side; h, w patch grid; C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig, DistillConfig
from stages.backbone.networks.crops import to_pixels
from stages.backbone.networks.feature_map import FeatureMap
from stages.backbone.networks.load import digest_of, load, network_for
from stages.backbone.networks.vit import Cnn, Hybrid
from stages.training import Session, Task, fit, warmup_cosine
from stages.types import Fitted, Rows, UserError, batches

WARM_UP = 0.1

Targets = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Tokens (B, h, w, C) of the frozen backbone -> the tokens that the backbone should give."""


class _Distillation(Task):
    def __init__(self, network: nn.Module, scale: float, config: DistillConfig) -> None:
        super().__init__()
        self.network, self._scale, self._config = network, scale, config

    def loss(self, batch: Any) -> dict[str, Tensor]:
        images, targets = batch
        output = self.network(images.float())[0].permute(0, 2, 3, 1)  # (B, C, h, w) -> (B, h, w, C)
        squared = F.mse_loss(output / self._scale, targets / self._scale)
        cosine = 1 - F.cosine_similarity(output, targets, dim=-1).mean()
        return {"loss": squared + self._config.cosine_weight * cosine, "mse": squared, "cosine": cosine}

    def optimizer(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        weights = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=self._config.learning_rate, weight_decay=self._config.weight_decay)
        return optimizer, warmup_cosine(optimizer, steps, max(1, round(WARM_UP * steps)))


def distill(
    fitted: Fitted, targets: Targets, images: Rows, validation: Rows, config: DistillConfig, seed: int, session: Session
) -> Fitted:
    """The backbone with new weights, and a digest of its own.

    Args:
        fitted: the frozen backbone, as `build` gives it.
        targets: the trained denoiser.
        images, validation: (N, S, S, 3) uint8 RGB, good images; `validation` chooses the epoch that is kept.

    Raises:
        UserError: no images, or a backbone without weights that could learn (`cnn`).
    """
    if not len(images) or not len(validation):
        raise UserError(
            f"distill: {len(images)} training and {len(validation)} validation images; at least one of each is needed"
        )
    teacher = load(fitted, session.device)
    with torch.random.fork_rng():
        network = network_for(BackboneConfig(**fitted.info["architecture"]))
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in fitted.arrays.items()})
    network.requires_grad_(False)
    _trained_part(network, fitted.info["architecture"]["model"]).requires_grad_(True)

    def pairs(source: Rows, order: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        for part in batches(len(order), config.batch):
            pixels = source[order[part]]
            yield to_pixels(pixels), torch.from_numpy(targets(teacher.extract(pixels).tokens))

    first_targets = next(pairs(images, np.arange(min(len(images), config.batch))))[1]
    task = _Distillation(network, float(first_targets.std()) or 1.0, config)
    history = fit(
        task,
        lambda epoch: pairs(images, np.random.default_rng([seed, epoch]).permutation(len(images))),
        lambda: pairs(validation, np.arange(len(validation))),
        steps_per_epoch=-(-len(images) // config.batch),
        epochs=config.epochs,
        patience=config.patience,
        seed=seed,
        session=session,
    )
    arrays = {name: np.array(value.detach().numpy()) for name, value in network.state_dict().items()}
    best = history.epochs[history.best_epoch]
    metrics = {name: best[name] for name in ("train_loss", "val_loss", "val_mse", "val_cosine")}
    return Fitted(
        arrays,
        {**fitted.info, "digest": digest_of(arrays, fitted.info["architecture"])},
        {**metrics, "best_epoch": history.best_epoch, "curve": history.epochs},
    )


def _trained_part(network: nn.Module, name: str) -> nn.Module:
    """The part of the network that is trained: for the hybrid, the blocks after the frozen CNN."""
    if isinstance(network, Hybrid):
        return network.trunk
    if isinstance(network, Cnn | FeatureMap):
        raise UserError(
            f"distill: backbone `{name}` has no position embedding and no block that could learn; set epochs: 0"
        )
    return network
