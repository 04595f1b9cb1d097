"""What held-out images get from a model that has not learnt from them, beside a model that has.

The threshold must come from scores of images that are new to the model. Once they have given theirs, there is no reason
not to learn from them: a few hundred images are all there are. The scores are then those of a model that has seen fewer
images, to which new ones look a little stranger: the threshold errs on the side of passing good parts.

Source: the thought is that of cross-conformal prediction (Vovk, Annals of Mathematics and AI 74, 2015) with one fold
held out, without its guarantee for the model of all images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from stages.detectors.interface import DetectorConfig
from stages.types import Fitted, Samples, ScoreMap

Own = TypeVar("Own", bound=DetectorConfig)
"""A detector's parameters."""


def with_held_out(
    models: Iterable[Fitted],
    validation: Samples,
    config: Own,
    device: str,
    score: Callable[[Fitted, Samples, Own, str], Iterator[ScoreMap]],
) -> Fitted:
    """The model that judges others.

    Args:
        models: that of the training images, then that of the validation images as well; made only when asked for.
        score: the detector's.
    """
    made = iter(models)
    first = next(made)
    if config.fit_on == "train":
        return first
    held_out = tuple(score(first, validation, config, device))
    return replace(next(made), held_out=held_out)
