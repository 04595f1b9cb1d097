"""InTra as a detector: train on good images, inpaint an image patch by patch, compare (arXiv:2104.13897, section 3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.detectors.intra import windows as win
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.intra.task import InpaintingTask, TrainingWindows, validation_batches
from stages.detectors.shared import comparison as compare
from stages.detectors.shared.comparison import (
    BATCH,
    PIXEL_KINDS,
    Comparison,
    Learner,
    Normals,
    PixelKind,
    as_bytes,
    unlike,
)
from stages.detectors.shared.held_out import with_held_out
from stages.training import Session
from stages.training import fit as train_network
from stages.types import Fitted, Samples, ScoreMap, UserError, batches


def needs(config: IntraConfig) -> frozenset[str]:
    """Nothing but the images, and the CNN in whose features they may be compared with their restorations."""
    return frozenset({"imagenet"}) if config.compare == "features" else frozenset()


def fit(train: Samples, validation: Samples, config: IntraConfig, seed: int, session: Session) -> Fitted:
    """Train the network, then learn what normal images and their restorations differ in.

    The images, of training and validation, and their restorations are held in memory as bytes (2 * N * S * S * 3).

    Raises:
        UserError: the images are not of the configured side.
    """
    _check(train, config)
    _check(validation, config)
    images, unseen = (compare.reduced(one.images, config.image_side) for one in (train, validation))
    task = InpaintingTask(build(config, seed), config)
    held_out = validation_batches(unseen, config, seed)
    data = TrainingWindows(images, config, seed)
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
    best = history.epochs[history.best_epoch]
    metrics = {
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "train_loss": best["train_loss"],
        "val_loss": best["val_loss"],
        "val_curve": [epoch["val_loss"] for epoch in history.epochs],
    }
    models = (
        Fitted(arrays, info={"seed": seed}, metrics=metrics)
        for arrays in _arrays(network, ((train, images), (validation, unseen)), config, session.device)
    )
    return with_held_out(models, validation, config, session.device, score)


def _arrays(
    network: InpaintingTransformer, parts: Sequence[tuple[Samples, NDArray[np.uint8]]], config: IntraConfig, device: str
) -> Iterator[dict[str, NDArray[Any]]]:
    """Those of the model after each part, which is images and the same as the network sees them, (N, S, S, 3)."""
    weights = {f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
    normals = Normals(config.image_side)
    learner = Learner(parts[0][0].imagenet, config) if config.compare == "features" else None
    for samples, small in parts:
        pictures = _restorations(network, small, normals, config, device)
        arrays = weights | normals.named()
        if learner is not None:
            learner.add(samples.images, pictures)
            arrays |= learner.arrays()
        yield arrays


def score(fitted: Fitted, samples: Samples, config: IntraConfig, device: str) -> Iterator[ScoreMap]:
    """The map of `config.compare`, and its maximum.

    `msgms`: the squared difference of the image's map to the mean map of normal images (section 3.3). `ssim`: by how
    many spreads it lies above that mean. Extras: the maximum by each kind of pixel map. Picture: `restoration`.

    Raises:
        UserError: the images are not of the configured side.
    """
    _check(samples, config)
    network = load(fitted.arrays, config).to(device)
    featured = Comparison(fitted.arrays, samples.imagenet, config) if config.compare == "features" else None
    for rows in batches(len(samples), BATCH):
        images = np.asarray(samples.images[rows])
        small = compare.reduced(images, config.image_side)
        scored = [_scored(network, image, fitted.arrays, config, device) for image in small]
        yield from scored if featured is None else featured.scored(images, scored)


def _scored(
    network: InpaintingTransformer,
    image: NDArray[np.uint8],
    arrays: Mapping[str, NDArray[Any]],
    config: IntraConfig,
    device: str,
) -> ScoreMap:
    """What one image (S, S, 3) gets by pixels."""
    restoration, differences = restored(network, image, config, device)
    maps = {
        "msgms": np.square(differences["msgms"] - arrays["msgms.mean"]),
        "ssim": (differences["ssim"] - arrays["ssim.mean"]) / _scale(arrays["ssim.spread"]),
    }
    deployed = maps["ssim" if config.compare == "features" else config.compare]
    return ScoreMap(
        anomaly_map=deployed,
        image_score=float(deployed.max()),
        extras={kind: float(plane.max()) for kind, plane in maps.items()},
        pictures={"restoration": restoration},
    )


def _scale(spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """(S, S): the root of each pixel's variance and of the mean variance together, so that no pixel weighs too much."""
    variance = np.square(spread, dtype=np.float64)
    # the tiny constant keeps a category of identical images, whose maps do not vary at all, from dividing by zero
    return np.sqrt(variance + variance.mean() + 1e-12).astype(np.float32)


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


def difference_map(image: Tensor, restoration: Tensor, kind: PixelKind, smoothing_side: int) -> Tensor:
    """1 - similarity under a mean filter: two (S, S, 3) in [0, 1] -> (S, S); borders: the mean inside."""
    a, b = (x.permute(2, 0, 1)[None] for x in (image, restoration))  # (1, 3, S, S)
    smooth = torch.nn.functional.avg_pool2d(
        unlike(a, b, kind), smoothing_side, stride=1, padding=smoothing_side // 2, count_include_pad=False
    )
    return smooth[0, 0]


def restored(
    network: InpaintingTransformer, image: NDArray[np.uint8], config: IntraConfig, device: str
) -> tuple[NDArray[np.uint8], dict[PixelKind, NDArray[np.float32]]]:
    """Restoration (S, S, 3) of an image, and the smoothed map (S, S) of what differs by each kind of pixel map."""
    restoration = inpaint(network, image, config, device)
    original = torch.from_numpy(image).to(device).float() / 255
    differences = {
        kind: difference_map(original, restoration, kind, config.smoothing_side).cpu().numpy() for kind in PIXEL_KINDS
    }
    return as_bytes(restoration.permute(2, 0, 1)), differences


def _restorations(
    network: InpaintingTransformer, images: NDArray[np.uint8], normals: Normals, config: IntraConfig, device: str
) -> NDArray[np.uint8]:
    """(N, S, S, 3), what the network makes of the images; their pixel maps go to `normals`."""
    pictures = np.empty_like(images)
    for i, image in enumerate(images):
        pictures[i], differences = restored(network, image, config, device)
        normals.add(differences)
    return pictures


def _check(samples: Samples, config: IntraConfig) -> None:
    shape = tuple(samples.images.shape[1:])
    if shape != (config.input_side, config.input_side, 3):
        raise UserError(
            f"intra: the images are {' x '.join(map(str, shape))}, but {config.input_side} x {config.input_side} x 3"
            " are needed; prepare them at that side."
        )
