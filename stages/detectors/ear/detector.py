"""EAR, Excision And Recovery: Park et al., arXiv 2310.04010 (Scientific Reports 14:18872, 2024).

One mask per image, computed without randomness, cuts out what looks suspicious (`mask.py`). A mosaic of the original
pixels fills the cut (`hint.py`). A U-Net that is trained on good images only restores it (`restore.py`). The anomaly
map is the difference between image and restoration.

Deviations: the paper's backbone is DINO ViT, here it is the pipeline's; besides class attention there are two kinds of
mask by rarity (`EarConfig.mask`); besides 1 - MSGMS there are two other ways to compare (`EarConfig.compare`); pixel
maps are standardised at each pixel by those of good images, because the network never restores a regular texture, such
as a busbar, perfectly.
"""

from __future__ import annotations

from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.fitting import State, extend, prepare, train_network
from stages.detectors.ear.image_masks import sample_memories, searches_in
from stages.detectors.ear.mask_sources import available_kinds, source_fields
from stages.detectors.ear.scoring import score
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.training import Session
from stages.types import Fitted, Samples

__all__ = ["fit", "needs", "score"]


def needs(config: EarConfig) -> frozenset[str]:
    """What the deployed mask reads, the masks that are compared with it, and the comparison of features."""
    return source_fields(config) | {"imagenet"} if config.compare == "features" else source_fields(config)


def fit(train: Samples, validation: Samples, config: EarConfig, seed: int, session: Session) -> Fitted:
    """Train the network on training images, choose the mosaic on validation images, and fit the statistics of maps.

    Memory: images, their restorations (uint8) and three kinds of masks: 9 bytes per pixel, 37 kB per image at 64
    pixels.

    Raises:
        UserError: `ear.mask` asks for class attention and the backbone has none.
    """
    kinds = available_kinds(train, config)
    memories = sample_memories(train, kinds, config, seed)
    searches = searches_in(memories, config, session.device)
    training_images = prepare(train, kinds, searches, config, in_memory=True)
    validation_images = prepare(validation, kinds, searches, config, in_memory=False)

    def fit_on_training() -> tuple[Fitted, State]:
        state = train_network(training_images, validation_images, memories, config, seed, session)
        return extend(state, training_images, config), state

    def extend_by_validation(state: State) -> Fitted:
        return extend(state, validation_images, config)

    return fit_with_validation_results(fit_on_training, extend_by_validation, validation, config, session.device, score)
