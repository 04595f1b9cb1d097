"""InTra: an image is painted anew, each patch from those around it, and compared (arXiv:2104.13897, section 3).

In pixels as in the paper (`pixels.py`), or in tokens (`tokens.py`).

Legend: N images; S side in pixels; h, w grid; Z channels of what is painted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.detectors.intra import pixels, tokens
from stages.detectors.intra import windows as win
from stages.detectors.intra.canvas import Canvas
from stages.detectors.intra.config import IntraConfig
from stages.detectors.intra.model import InpaintingTransformer, build
from stages.detectors.intra.task import InpaintingTask, TrainingWindows, validation_batches
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.detectors.shared.network_weights import weights_of
from stages.detectors.shared.token_space import TokenSpace, read_tokens
from stages.training import Session
from stages.training import fit as train_network
from stages.types import Fitted, Samples, ScoreMap, UserError


@dataclass(frozen=True)
class _State:
    """A trained network, and the sums over the good images that have been added to its statistics."""

    trained: Fitted
    """Weights, seed and metrics: the part of the model that more images do not change."""
    statistics: pixels.PixelFitter | tokens.TokenFitter

    def extend(self, good: NDArray[Any]) -> Fitted:
        """Add pixels or tokens of good images; the model of all images added so far."""
        arrays = {**self.trained.arrays, **self.statistics.add(good)}
        return Fitted(arrays, self.trained.info, self.trained.metrics)


def needs(config: IntraConfig) -> frozenset[str]:
    """What is restored."""
    return config.restored_fields


def fit(train: Samples, validation: Samples, config: IntraConfig, seed: int, session: Session) -> Fitted:
    """Train the network on training images, then fit the statistics of what it leaves of good images.

    Memory: pixels or tokens of all images, and tokens once more as the network sees them: 520 kB an image by default.

    Raises:
        UserError: the images do not have the configured side, come without the tokens, or patches do not fit the grid.
    """
    in_pixels = config.space == "pixels"
    make: Callable[..., _State] = _in_pixels if in_pixels else _in_tokens
    good, held = (
        _images(part, config) if in_pixels else read_tokens(part, config.features) for part in (train, validation)
    )

    def fit_on_training() -> tuple[Fitted, _State]:
        state = make(good, held, config, seed, session)
        return state.extend(good), state

    return fit_with_validation_results(
        fit_on_training, lambda state: state.extend(held), validation, config, session.device, score
    )


def _in_pixels(
    good: NDArray[np.uint8], held: NDArray[np.uint8], config: IntraConfig, seed: int, session: Session
) -> _State:
    canvas = config.canvas((config.image_side, config.image_side, 3))
    network, trained = _train(good, held, canvas, config, seed, session)
    return _State(trained, pixels.PixelFitter(network, canvas, config, session.device))


def _in_tokens(
    good: NDArray[np.float16], held: NDArray[np.float16], config: IntraConfig, seed: int, session: Session
) -> _State:
    space = TokenSpace.fit(good, config.channels)
    canvas, network, trained = config.canvas(space.shape), None, Fitted({}, {"seed": seed}, {"epochs": 0})
    if config.restore == "network":
        seen, held_seen = (
            np.stack([space.reduce(image).astype(np.float16) for image in part]) for part in (good, held)
        )
        network, trained = _train(seen, held_seen, canvas, config, seed, session)
    return _State(trained, tokens.TokenFitter(network, space, config, session.device))


def _train(
    good: win.Pixels, held: win.Pixels, canvas: Canvas, config: IntraConfig, seed: int, session: Session
) -> tuple[InpaintingTransformer, Fitted]:
    task = InpaintingTask(build(config, canvas, seed), config)
    validation_windows = validation_batches(held, canvas, config, seed)
    training_windows = TrainingWindows(good, canvas, config, seed, session.device)
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
    best = history.epochs[history.best_epoch]
    metrics: Mapping[str, Any] = {
        "best_epoch": history.best_epoch,
        "epochs": len(history.epochs),
        "train_loss": best["train_loss"],
        "val_loss": best["val_loss"],
        "val_curve": [epoch["val_loss"] for epoch in history.epochs],
    }
    return task.network.to(session.device), Fitted(weights_of(task.network), {"seed": seed}, metrics)


def score(fitted: Fitted, samples: Samples, config: IntraConfig, device: str) -> Iterator[ScoreMap]:
    """Yield the result of each image: `pixels.score` or `tokens.score`.

    Raises:
        UserError: the images do not have the configured side, or come without the tokens.
    """
    if config.space == "pixels":
        _check_side(samples, config)
        yield from pixels.score(fitted, samples, config, device)
    else:
        yield from tokens.score(fitted, samples, config, device)


def _images(samples: Samples, config: IntraConfig) -> NDArray[np.uint8]:
    _check_side(samples, config)
    return samples.images[:]


def _check_side(samples: Samples, config: IntraConfig) -> None:
    shape = tuple(samples.images.shape[1:])
    if shape != (config.input_side, config.input_side, 3):
        raise UserError(
            f"intra: the images are {' x '.join(map(str, shape))}, but {config.input_side} x {config.input_side} x 3"
            " are needed; prepare them at that side."
        )
