"""EAR, Excision And Recovery: Park et al., arXiv 2310.04010 (Scientific Reports 14:18872, 2024).

One mask an image, without randomness, cuts out what looks suspicious (`mask.py`); a mosaic of itself fills the cut
(`hint.py`); a U-Net trained on normal images alone restores it (`restore.py`); what differs from the restoration is
anomalous.

Legend: N images; S side in pixels; h, w patch grid.

Deviations: the paper's backbone is DINO ViT, ours is whichever the pipeline has; besides class attention there are
two kinds of mask by rarity (`EarConfig.mask`); the difference is 1 - MSGMS, standardised at each pixel by what normal
images show there, because a regular texture (a busbar) is never restored perfectly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.ear.config import MASK_KINDS, EarConfig, MaskKind
from stages.detectors.ear.hint import NO_HINT, choose_scale
from stages.detectors.ear.mask import READ, attention_saliency, mask_of, rarity
from stages.detectors.ear.restore import Masked, as_tensor, mean_and_spread, restore, scale_errors, train
from stages.detectors.ear.unet import UNet
from stages.detectors.nearest import NOBODY, Memory, Search, drawn
from stages.torch_setup import one_thread
from stages.training import Session
from stages.types import Fitted, Rows, Samples, ScoreMap, UserError, batches

_SOURCES: Mapping[MaskKind, str] = {"attention": "attention", "rarity_raw": "raw", "rarity_clean": "clean"}
"""Kind of mask -> the rows of `Samples` that it reads."""


def needs(config: EarConfig) -> frozenset[str]:
    """What the deployed mask reads, and what those that are compared with it read."""
    return frozenset(_SOURCES.values() if config.compare_masks else (_SOURCES[config.mask],))


def fit(training: Samples, validation: Samples, config: EarConfig, seed: int, session: Session) -> Fitted:
    """Train on normal images, choose the mosaic on held-out ones, and learn what normal images' maps look like.

    Images (uint8) and masks are held in memory: 4 bytes a pixel, 16 kB an image at 64 pixels.

    Raises:
        UserError: `ear.mask` asks for class attention and the backbone has none.
    """
    kinds = _kinds(training, config)
    memories: dict[MaskKind, Memory] = {
        kind: _memory(_rows(training, kind), config.memory_size, seed) for kind in kinds if kind != "attention"
    }
    searches = _searches(memories, config, session.device)
    images, held_out = training.images[:], validation.images[:]
    masks = {kind: _masks(training, kind, searches, config, known=True) for kind in kinds}
    unseen = Masked(held_out, _masks(validation, config.mask, searches, config, known=False))
    network, history = train(Masked(images, masks[config.mask]), unseen, config, seed, session)
    network.to(session.device)
    errors = scale_errors(network, unseen, config)
    scale = choose_scale(errors, config.hint_tolerance)
    statistics = {kind: mean_and_spread(network, Masked(images, masks[kind]), scale) for kind in kinds}
    left_out = [kind for kind in MASK_KINDS if kind not in kinds]
    return Fitted(
        arrays=_arrays(network, memories, statistics),
        info={"kinds": list(kinds), "scale": scale},
        metrics={
            "epochs": len(history.epochs),
            "best_epoch": history.best_epoch,
            **history.epochs[history.best_epoch],
            "mosaic": None if scale == NO_HINT else scale,
            "mosaic_curve": {str(at): error for at, error in errors.items()},
            "masks_compared": list(kinds),
            "masks_left_out": {kind: _why_left_out(kind, config) for kind in left_out},
        },
    )


def score(fitted: Fitted, samples: Samples, config: EarConfig, device: str) -> Iterator[ScoreMap]:
    """One forward pass an image for the deployed mask, one more for each kind that is compared with it.

    The map is 1 - MSGMS, standardised and smoothed; the image score the mean of its highest `top_fraction`. Extras:
    `max` and `mean` of the map, and `score_<kind>` for each kind of mask. Pictures: `restoration`, `mask` and
    `mask_<kind>`.
    """
    network = UNet(config.width, config.depth)
    network.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in _part(fitted, "network.").items()}
    )
    network.to(device).eval()
    kinds = [kind for kind in MASK_KINDS if kind in fitted.info["kinds"]]
    memories: dict[MaskKind, Memory] = {
        kind: Memory(**_part(fitted, f"memory.{kind}.")) for kind in kinds if kind != "attention"
    }
    searches = _searches(memories, config, device)
    for kind in kinds:
        _rows(samples, kind)
    for rows in batches(len(samples), READ):
        images = samples.images[rows]
        sources = {kind: _rows(samples, kind)[rows] for kind in kinds}
        for i, image in enumerate(images):
            with one_thread():
                saliency = {kind: _saliency(of[i], searches.get(kind), NOBODY) for kind, of in sources.items()}
                masks = {kind: mask_of(plane, len(image), config.mask_fraction) for kind, plane in saliency.items()}
                scored = _scored(network, image, masks, fitted, config)
            yield scored


def _scored(
    network: UNet,
    image: NDArray[np.uint8],
    masks: Mapping[MaskKind, NDArray[np.bool_]],
    fitted: Fitted,
    config: EarConfig,
) -> ScoreMap:
    """What one image (S, S, 3) gets under each of its masks (S, S)."""
    maps, restorations = {}, {}
    pixels = as_tensor(image[None])
    for kind, mask in masks.items():
        restored, difference = restore(network, pixels, torch.from_numpy(mask)[None, None], fitted.info["scale"])
        mean, spread = fitted.arrays[f"mean.{kind}"], fitted.arrays[f"spread.{kind}"]
        maps[kind] = _standardised(difference.numpy(), mean, spread, config)
        restorations[kind] = restored[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()  # (S, S, 3)
    shown = {f"mask_{kind}": mask.astype(np.float16) for kind, mask in masks.items()}
    return ScoreMap(
        anomaly_map=maps[config.mask],
        image_score=_top(maps[config.mask], config.top_fraction),
        extras={
            "max": float(maps[config.mask].max()),
            "mean": float(maps[config.mask].mean()),
            **{f"score_{kind}": _top(plane, config.top_fraction) for kind, plane in maps.items()},
        },
        pictures={
            "restoration": restorations[config.mask],
            "mask": masks[config.mask].astype(np.float16),
            **shown,
        },
    )


def _standardised(
    difference: NDArray[np.float32], mean: NDArray[np.float32], spread: NDArray[np.float32], config: EarConfig
) -> NDArray[np.float32]:
    """How many spreads each pixel lies above what normal images show there, smoothed: (S, S)."""
    variance = np.square(spread, dtype=np.float64)
    # The tiny constant keeps a category of identical images, whose maps do not vary at all, from dividing by zero.
    scale = np.sqrt(variance + config.spread_floor * variance.mean() + 1e-12)
    plane = (difference - mean) / scale
    return gaussian_filter(plane, config.smooth_sigma, mode="nearest").astype(np.float32)


def _top(plane: NDArray[np.float32], fraction: float) -> float:
    """Mean of the highest `fraction` of the values, at least one."""
    count = max(1, round(fraction * plane.size))
    return float(np.sort(plane, axis=None)[-count:].mean(dtype=np.float64))


def _kinds(samples: Samples, config: EarConfig) -> tuple[MaskKind, ...]:
    """The kinds of mask to make: the deployed one, and those compared with it as far as their rows are there."""
    _rows(samples, config.mask)
    if not config.compare_masks:
        return (config.mask,)
    return tuple(kind for kind in MASK_KINDS if getattr(samples, _SOURCES[kind]) is not None)


def _rows(samples: Samples, kind: MaskKind) -> Rows:
    """What a kind of mask is made from: (N, heads, h, w) attention, or (N, h, w, C) tokens.

    Raises:
        UserError: it is not there.
    """
    rows: Rows | None = getattr(samples, _SOURCES[kind])
    if rows is not None:
        return rows
    if kind == "attention":
        raise UserError(
            "ear.mask is 'attention', but the backbone has no class token and so no class attention: set ear.mask to"
            " 'rarity_raw' or 'rarity_clean', or choose a backbone with a class token"
        )
    raise UserError(
        f"ear.mask is '{kind}', but the images come without '{_SOURCES[kind]}' patch tokens of the backbone"
    )


def _why_left_out(kind: MaskKind, config: EarConfig) -> str:
    if not config.compare_masks:
        return "ear.compare_masks is off"
    return "the backbone has no class token" if kind == "attention" else f"no {_SOURCES[kind]} patch tokens"


def _memory(tokens: Rows, size: int, seed: int) -> Memory:
    count, height, width, _ = tokens.shape
    return drawn((tokens[rows] for rows in batches(count, READ)), count, height * width, size, seed)


def _searches(memories: Mapping[MaskKind, Memory], config: EarConfig, device: str) -> dict[MaskKind, Search]:
    return {kind: Search(memory, config.neighbours, device) for kind, memory in memories.items()}


def _saliency(rows: NDArray[Any], search: Search | None, owner: int) -> NDArray[np.float32]:
    """(h, w) of one image's attention (no search) or tokens."""
    return attention_saliency(rows) if search is None else rarity(rows, search, owner)


def _masks(
    samples: Samples, kind: MaskKind, searches: Mapping[MaskKind, Search], config: EarConfig, known: bool
) -> NDArray[np.bool_]:
    """(N, S, S) masks; `known`: the images are those that the memory was drawn from."""
    side = samples.images.shape[1]
    masks = np.empty((len(samples), side, side), dtype=np.bool_)
    source = _rows(samples, kind)
    for rows in batches(len(samples), READ):
        for i, one in enumerate(source[rows], start=rows.start):
            saliency = _saliency(one, searches.get(kind), i if known else NOBODY)
            masks[i] = mask_of(saliency, side, config.mask_fraction)
    return masks


def _arrays(
    network: UNet,
    memories: Mapping[MaskKind, Memory],
    statistics: Mapping[MaskKind, tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {f"network.{k}": v.cpu().numpy() for k, v in network.state_dict().items()}
    for kind, memory in memories.items():
        for name in ("features", "owners", "centre", "spread"):
            arrays[f"memory.{kind}.{name}"] = getattr(memory, name)
    for kind, (mean, spread) in statistics.items():
        arrays[f"mean.{kind}"], arrays[f"spread.{kind}"] = mean, spread
    return arrays


def _part(fitted: Fitted, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in fitted.arrays.items() if name.startswith(prefix)}
