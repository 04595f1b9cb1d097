"""InTra: an image is painted anew, each patch from those around it, and compared (arXiv:2104.13897, section 3).

Legend: N images; S side in pixels that the network sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.intra.restore import load, restore, restore_images
from stages.detectors.intra.task import InpaintingTask, TrainingWindows, validation_batches
from stages.detectors.shared.comparison import BATCH, Comparison, ComparisonFitter
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.detectors.shared.network_weights import weights_of
from stages.detectors.shared.pixel_maps import PixelStatistics, pixel_scale
from stages.detectors.shared.resizing import reduce_images
from stages.training import Session
from stages.training import fit as train_network
from stages.types import Fitted, Samples, ScoreMap, UserError, batches


@dataclass(frozen=True)
class _State:
    """A trained network, and the sums over the good images that have been added to its statistics."""

    network: InpaintingTransformer
    trained: Fitted
    """Weights, seed and metrics: the part of the model that more images do not change."""
    statistics: PixelStatistics
    comparison: ComparisonFitter | None
    """None if pixels are compared."""


def needs(config: IntraConfig) -> frozenset[str]:
    """The ImageNet CNN if features are compared; otherwise the images only."""
    return frozenset({"imagenet"}) if config.compare == "features" else frozenset()


def fit(train: Samples, validation: Samples, config: IntraConfig, seed: int, session: Session) -> Fitted:
    """Train the network on training images, then fit the statistics of good images' maps.

    Memory: the images of training and validation and their restorations as bytes (2 * N * S * S * 3).

    Raises:
        UserError: the images do not have the configured side.
    """
    _check_side(train, config)
    _check_side(validation, config)
    training_images, validation_images = (reduce_images(part.images, config.image_side) for part in (train, validation))

    def fit_on_training() -> tuple[Fitted, _State]:
        state = _train(train, training_images, validation_images, config, seed, session)
        return _extend(state, train, training_images, config, session.device), state

    def extend(state: _State) -> Fitted:
        return _extend(state, validation, validation_images, config, session.device)

    return fit_with_validation_results(fit_on_training, extend, validation, config, session.device, score)


def _train(
    train: Samples,
    training_images: NDArray[np.uint8],
    validation_images: NDArray[np.uint8],
    config: IntraConfig,
    seed: int,
    session: Session,
) -> _State:
    task = InpaintingTask(build(config, seed), config)
    validation_windows = validation_batches(validation_images, config, seed)
    training_windows = TrainingWindows(training_images, config, seed, session.device)
    history = train_network(
        task,
        training_windows.epoch,
        lambda: validation_windows,
        steps_per_epoch=training_windows.steps,
        epochs=config.epochs,
        patience=config.patience,
        seed=seed,
        session=session,
        mixed_precision=config.mixed_precision,
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
    return _State(
        network=network,
        trained=Fitted(weights_of(network), info={"seed": seed}, metrics=metrics),
        statistics=PixelStatistics(config.image_side),
        comparison=ComparisonFitter(train.imagenet, config) if config.compare == "features" else None,
    )


def _extend(state: _State, samples: Samples, small: NDArray[np.uint8], config: IntraConfig, device: str) -> Fitted:
    """Add good images to the statistics; the model of all images added so far.

    Args:
        small: (N, S, S, 3) the same images as the network sees them.
    """
    restorations = restore_images(state.network, small, state.statistics, config, device)
    arrays = {**state.trained.arrays, **state.statistics.to_arrays()}
    if state.comparison is not None:
        state.comparison.add(samples.images, restorations)
        arrays |= state.comparison.arrays()
    return Fitted(arrays, state.trained.info, state.trained.metrics)


def score(fitted: Fitted, samples: Samples, config: IntraConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the map of `config.compare` and its maximum as image score.

    `msgms`: the squared difference between the image's pixel map and the mean pixel map of good images (section 3.3).
    `ssim`: the number of standard deviations by which the pixel map lies above that mean. Extras: the maximum of each
    kind of pixel map. Picture: `restoration`.

    Raises:
        UserError: the images do not have the configured side.
    """
    _check_side(samples, config)
    network = load(fitted.arrays, config).to(device)
    comparison = Comparison(fitted.arrays, samples.imagenet, config) if config.compare == "features" else None
    for rows in batches(len(samples), BATCH):
        images = np.asarray(samples.images[rows])
        small = reduce_images(images, config.image_side)
        results = [_score_by_pixels(network, image, fitted.arrays, config, device) for image in small]
        yield from results if comparison is None else comparison.score(images, results)


def _score_by_pixels(
    network: InpaintingTransformer,
    image: NDArray[np.uint8],
    arrays: Mapping[str, NDArray[Any]],
    config: IntraConfig,
    device: str,
) -> ScoreMap:
    """Score one image (S, S, 3) by pixels."""
    restoration, differences = restore(network, image, config, device)
    scale = pixel_scale(arrays["ssim.spread"]).astype(np.float32)
    maps = {
        "msgms": np.square(differences["msgms"] - arrays["msgms.mean"]),
        "ssim": (differences["ssim"] - arrays["ssim.mean"]) / scale,
    }
    deployed = maps["ssim" if config.compare == "features" else config.compare]
    return ScoreMap(
        anomaly_map=deployed,
        image_score=float(deployed.max()),
        extras={kind: float(plane.max()) for kind, plane in maps.items()},
        pictures={"restoration": restoration},
    )


def _check_side(samples: Samples, config: IntraConfig) -> None:
    shape = tuple(samples.images.shape[1:])
    if shape != (config.input_side, config.input_side, 3):
        raise UserError(
            f"intra: the images are {' x '.join(map(str, shape))}, but {config.input_side} x {config.input_side} x 3"
            " are needed; prepare them at that side."
        )
