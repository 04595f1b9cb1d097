"""EAR, Excision And Recovery: Park et al., arXiv 2310.04010 (Scientific Reports 14:18872, 2024).

One mask per image, computed without randomness, cuts out what looks suspicious (`mask.py`). A mosaic of what was there
fills the cut (`hint.py`). A U-Net that is trained on good images only restores it (`restore.py`). What the restoration
differs from the image by is the anomaly map, in pixels as in the paper (`pixels.py`) or in tokens (`tokens.py`).

Deviations: the paper's backbone is DINO ViT, here it is the pipeline's; besides class attention there are two kinds of
mask by rarity (`EarConfig.mask`); besides 1 - MSGMS pixels are compared by 1 - SSIM (`EarConfig.compare`); pixel maps
are standardised at each pixel by those of good images, because the network never restores a regular texture, such as a
busbar, perfectly; tokens.
"""

from __future__ import annotations

from stages.detectors.ear.config import EarConfig
from stages.detectors.ear.fitting import State, prepare, train_network
from stages.detectors.ear.image_masks import sample_memories, searches_in
from stages.detectors.ear.mask_sources import available_kinds, source_fields
from stages.detectors.ear.scoring import score
from stages.detectors.shared.held_out import fit_with_validation_results
from stages.detectors.shared.token_space import TokenSpace, read_tokens
from stages.training import Session
from stages.types import Fitted, Samples

__all__ = ["fit", "needs", "score"]


def needs(config: EarConfig) -> frozenset[str]:
    """What the deployed mask reads, the masks that are compared with it, and what is restored."""
    return source_fields(config) | config.restored_fields


def fit(train: Samples, validation: Samples, config: EarConfig, seed: int, session: Session) -> Fitted:
    """Train the network on training images, choose the mosaic on validation images, and fit the statistics of what it
    leaves.

    Memory: pixels or tokens of all images, tokens once more as the network sees them, and three kinds of masks: 530 kB
    an image by default.

    Raises:
        UserError: `ear.mask` asks for class attention and the backbone has none, or the network cannot halve the grid.
    """
    kinds = available_kinds(train, config)
    memories = sample_memories(train, kinds, config, seed)
    searches = searches_in(memories, config, session.device)
    by_tokens = config.space == "tokens"
    good, held = (read_tokens(part, config.features) if by_tokens else None for part in (train, validation))
    space = None if good is None else TokenSpace.fit(good, config.channels)
    training_images = prepare(train, good, space, kinds, searches, config, in_memory=True)
    validation_images = prepare(validation, held, space, kinds, searches, config, in_memory=False)

    def fit_on_training() -> tuple[Fitted, State]:
        state = train_network(training_images, validation_images, space, memories, config, seed, session)
        return state.extend(training_images), state

    def extend_by_validation(state: State) -> Fitted:
        return state.extend(validation_images)

    return fit_with_validation_results(fit_on_training, extend_by_validation, validation, config, session.device, score)
