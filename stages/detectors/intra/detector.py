"""InTra as a detector: train on good images, inpaint an image patch by patch, compare (arXiv:2104.13897, section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.intra import windows as win
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.intra.task import InpaintingTask, TrainingWindows, validation_batches
from stages.detectors.similarity import msgms
from stages.training import Session
from stages.training import fit as train_network
from stages.types import Fitted, Samples, ScoreMap, UserError, batches

READ = 64
"""Images read at once."""
MEAN_MAP = "mean_map"
TOP_FRACTION = 0.01


def needs(config: IntraConfig) -> frozenset[str]:
    """Nothing but the images."""
    return frozenset()


def fit(train: Samples, validation: Samples, config: IntraConfig, seed: int, session: Session) -> Fitted:
    """Train the network, then average the map 1 - MSGMS over the training images.

    The training images are held in memory as bytes (N * S * S * 3) while the network trains.

    Raises:
        UserError: the images are not of the configured side.
    """
    _check(train, config)
    _check(validation, config)
    task = InpaintingTask(build(config, seed), config)
    held_out = validation_batches(np.asarray(validation.images[:]), config, seed)
    data = TrainingWindows(np.asarray(train.images[:]), config, seed)
    history = train_network(
        task,
        data.epoch,
        lambda: held_out,
        steps_per_epoch=data.steps,
        epochs=config.epochs,
        patience=config.patience,
        seed=seed,
        session=session,
    )
    network = task.network.to(session.device)
    total = np.zeros((config.image_side, config.image_side))
    for _, difference in _restored(network, train, config, session.device):
        total += difference
    arrays = {f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
    arrays[MEAN_MAP] = (total / len(train)).astype(np.float32)
    best = history.epochs[history.best_epoch]
    return Fitted(
        arrays=arrays,
        info={"seed": seed},
        metrics={
            "best_epoch": history.best_epoch,
            "epochs": len(history.epochs),
            "train_loss": best["train_loss"],
            "val_loss": best["val_loss"],
            "val_curve": [epoch["val_loss"] for epoch in history.epochs],
        },
    )


def score(fitted: Fitted, samples: Samples, config: IntraConfig, device: str) -> Iterator[ScoreMap]:
    """Squared difference of an image's map to the mean map of training; its maximum is the image score (section 3.3).

    Extras: `mean` of the map, and `top_1_percent`, the mean of its highest hundredth. Picture: `restoration`.

    Raises:
        UserError: the images are not of the configured side.
    """
    _check(samples, config)
    network = load(fitted.arrays, config).to(device)
    mean = fitted.arrays[MEAN_MAP]
    top = max(1, round(TOP_FRACTION * mean.size))
    for restoration, difference in _restored(network, samples, config, device):
        anomaly = np.square(difference - mean)
        highest = np.sort(anomaly, axis=None)[-top:]
        yield ScoreMap(
            anomaly_map=anomaly,
            image_score=float(highest[-1]),
            extras={"mean": float(anomaly.mean()), "top_1_percent": float(highest.mean())},
            pictures={"restoration": np.round(restoration * 255).astype(np.uint8)},
        )


def load(arrays: Mapping[str, NDArray[Any]], config: IntraConfig) -> InpaintingTransformer:
    """The trained network, in eval mode."""
    network = build(config, seed=0)
    state = {
        name.removeprefix("network."): torch.from_numpy(np.array(value))
        for name, value in arrays.items()
        if name.startswith("network.")
    }
    network.load_state_dict(state)
    return network.eval()


@torch.inference_mode()
def inpaint(network: InpaintingTransformer, image: NDArray[np.uint8], config: IntraConfig, device: str) -> Tensor:
    """The whole image painted anew, each patch from the window around it: (S, S, 3) uint8 -> (S, S, 3) in [0, 1].

    One image alone, in chunks that depend on the configuration alone: what it gets cannot depend on other images.
    """
    grid, patch = config.grid_side, config.patch_side
    chosen = win.centred(grid, config.window_side)
    positions = torch.from_numpy(chosen.positions).to(device)
    covered = torch.from_numpy(chosen.covered).to(device)
    pixels = torch.from_numpy(win.to_patches(image, patch)).to(device).float() / 255  # (G * G, P)
    painted = [
        network(pixels[positions[chunk]], positions[chunk], covered[chunk])
        for chunk in batches(len(positions), config.inference_windows)
    ]
    cut = torch.cat(painted).clamp(0, 1).view(grid, grid, patch, patch, 3)
    return cut.transpose(1, 2).reshape(grid * patch, grid * patch, 3)  # (G, K, G, K, 3) -> (S, S, 3)


def difference_map(image: Tensor, restoration: Tensor, smoothing_side: int) -> Tensor:
    """1 - MSGMS under a mean filter: two (S, S, 3) in [0, 1] -> (S, S); borders: the mean inside."""
    a, b = (x.permute(2, 0, 1)[None] for x in (image, restoration))  # (1, 3, S, S)
    unlike = 1 - msgms(a, b)
    smooth = torch.nn.functional.avg_pool2d(
        unlike, smoothing_side, stride=1, padding=smoothing_side // 2, count_include_pad=False
    )
    return smooth[0, 0]


def _restored(
    network: InpaintingTransformer, samples: Samples, config: IntraConfig, device: str
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Restoration (S, S, 3) and difference map (S, S) of each image, in order."""
    for part in batches(len(samples), READ):
        for image in np.asarray(samples.images[part]):
            restoration = inpaint(network, image, config, device)
            original = torch.from_numpy(image).to(device).float() / 255
            difference = difference_map(original, restoration, config.smoothing_side)
            yield restoration.cpu().numpy(), difference.cpu().numpy()


def _check(samples: Samples, config: IntraConfig) -> None:
    shape = tuple(samples.images.shape[1:])
    if shape != (config.image_side, config.image_side, 3):
        raise UserError(
            f"intra: the images are {' x '.join(map(str, shape))}, but image_side is {config.image_side} "
            f"({config.image_side} x {config.image_side} x 3); prepare them at that side."
        )
