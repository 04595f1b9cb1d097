"""Results of the training-only model on validation images, for a model that is then fitted on both.

The threshold must come from scores of images that are new to the model. After the validation images have been scored,
nothing speaks against fitting the model on them too: there are a few hundred images in all. The threshold then belongs
to another model. New images may get lower or higher scores from the deployed one, so the promise about overkill does
not carry over to it.

Source: the idea is that of cross-conformal prediction (Vovk, Annals of Mathematics and AI 74, 2015) with one fold held
out, without its guarantee for the model of all images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from stages.detectors.interface import DetectorConfig
from stages.types import Fitted, Samples, ScoreMap

Parameters = TypeVar("Parameters", bound=DetectorConfig)
State = TypeVar("State")
"""What a detector keeps of the training images, to extend its model by validation images."""


def fit_with_validation_results(
    fit_on_training: Callable[[], tuple[Fitted, State]],
    extend: Callable[[State], Fitted],
    validation: Samples,
    config: Parameters,
    device: str,
    score: Callable[[Fitted, Samples, Parameters, str], Iterator[ScoreMap]],
) -> Fitted:
    """The deployed model, with the validation results of the training-only model if the deployed model is another.

    Args:
        fit_on_training: fits the detector on training images; called once.
        extend: fits it on validation images as well. It may change the state, not the arrays of the first model. Called
            only with `fit_on: train_and_validation`, after the first model has scored the validation images.
        score: the detector's function `score`.
    """
    training_model, state = fit_on_training()
    if config.fit_on == "train":
        return training_model
    results = tuple(score(training_model, validation, config, device))
    return replace(extend(state), held_out=results)
