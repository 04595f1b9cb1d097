"""EAR, Excision And Recovery: Park et al., arXiv 2310.04010 (Scientific Reports 14:18872, 2024).

One mask an image, without randomness, cuts out what looks suspicious (`mask.py`); a mosaic of itself fills the cut
(`hint.py`); a U-Net trained on normal images alone restores it (`restore.py`); what differs from the restoration is
anomalous.

Legend: N images; S side in pixels; h, w patch grid.

Deviations: the paper's backbone is DINO ViT, ours is whichever the pipeline has; besides class attention there are
two kinds of mask by rarity (`EarConfig.mask`); besides 1 - MSGMS there are two other ways to compare
(`stages.detectors.compare`); pixel maps are standardised at each pixel by what normal images show there, because a
regular texture (a busbar) is never restored perfectly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stages.detectors.ear.config import MASK_KINDS, EarConfig, MaskKind
from stages.detectors.ear.hint import NO_HINT, choose_scale
from stages.detectors.ear.mask import READ, attention_saliency, mask_of, rarity
from stages.detectors.ear.restore import Masked, as_tensor, restore, restored, scale_errors, train
from stages.detectors.ear.unet import UNet
from stages.detectors.shared import comparison as compare
from stages.detectors.shared.comparison import BATCH, PIXEL_KINDS, Comparison, Learner, Normals, PixelKind, as_bytes
from stages.detectors.shared.held_out import with_held_out
from stages.detectors.shared.nearest import NOBODY, Memory, Search, drawn
from stages.torch_setup import one_thread
from stages.training import Session
from stages.types import Fitted, Rows, Samples, ScoreMap, UserError, batches

_SOURCES: Mapping[MaskKind, str] = {"attention": "attention", "rarity_raw": "raw", "rarity_clean": "clean"}
"""Kind of mask -> the rows of `Samples` that it reads."""


def needs(config: EarConfig) -> frozenset[str]:
    """What the deployed mask reads, what those that are compared with it read, and what the comparison reads."""
    masks = frozenset(_SOURCES.values() if config.compare_masks else (_SOURCES[config.mask],))
    return masks | {"imagenet"} if config.compare == "features" else masks


def fit(training: Samples, validation: Samples, config: EarConfig, seed: int, session: Session) -> Fitted:
    """Train on normal images, choose the mosaic on held-out ones, and learn what normal images' maps look like.

    Images, their restorations (uint8) and three kinds of masks are held in memory: 9 bytes a pixel, 37 kB an image at
    64 pixels.

    Raises:
        UserError: `ear.mask` asks for class attention and the backbone has none.
    """
    kinds = _kinds(training, config)
    memories: dict[MaskKind, Memory] = {
        kind: _memory(_rows(training, kind), config.memory_size, seed) for kind in kinds if kind != "attention"
    }
    searches = _searches(memories, config, session.device)
    images, held_out = (compare.reduced(one.images, config.image_side) for one in (training, validation))
    seen, unseen = (
        _Images(one, small, {kind: _masks(one, kind, searches, config, known) for kind in kinds})
        for one, small, known in ((training, images, True), (validation, held_out, False))
    )
    network, history = train(seen.masked(config.mask), unseen.masked(config.mask), config, seed, session)
    network.to(session.device)
    errors = scale_errors(network, unseen.masked(config.mask), config)
    scale = choose_scale(errors, config.hint_tolerance)
    left_out = [kind for kind in MASK_KINDS if kind not in kinds]
    metrics = {
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        **history.epochs[history.best_epoch],
        "mosaic": None if scale == NO_HINT else scale,
        "mosaic_curve": {str(at): error for at, error in errors.items()},
        "masks_compared": list(kinds),
        "masks_left_out": {kind: _why_left_out(kind, config) for kind in left_out},
    }
    models = (
        Fitted(_arrays(network, memories) | learnt, info={"kinds": list(kinds), "scale": scale}, metrics=metrics)
        for learnt in _learnt(network, (seen, unseen), scale, config)
    )
    return with_held_out(models, validation, config, session.device, score)


@dataclass(frozen=True)
class _Images:
    """Some of the normal images."""

    samples: Samples
    small: NDArray[np.uint8]
    """(N, S, S, 3)."""
    masks: Mapping[MaskKind, NDArray[np.bool_]]
    """(N, S, S) of each kind."""

    def masked(self, kind: MaskKind) -> Masked:
        return Masked(self.small, self.masks[kind])


def _learnt(
    network: UNet, parts: Sequence[_Images], scale: int, config: EarConfig
) -> Iterator[dict[str, NDArray[Any]]]:
    """After each part: what normal images' pixel maps look like under each kind of mask, and `Learner`'s arrays."""
    normals = {kind: Normals(config.image_side) for kind in parts[0].masks}
    learner = Learner(parts[0].samples.imagenet, config) if config.compare == "features" else None
    for part in parts:
        arrays: dict[str, NDArray[Any]] = {}
        for kind, of in normals.items():
            pictures = restored(network, part.masked(kind), scale, of)
            arrays |= of.named(f"{kind}.")
            if kind == config.mask and learner is not None:
                learner.add(part.samples.images, pictures, part.masks[kind])
                arrays |= learner.arrays()
        yield arrays


def score(fitted: Fitted, samples: Samples, config: EarConfig, device: str) -> Iterator[ScoreMap]:
    """One forward pass an image for the deployed mask, one more for each kind that is compared with it.

    The map is that of `config.compare`. Pixel maps are standardised and smoothed, and the image score is the mean of
    their highest `top_fraction`; of features it is the maximum. Extras: `max` and `mean` of the map; `ssim` and
    `msgms`, the image score by each kind of pixel map, and `score_<kind>`, that by pixels for each kind of mask.
    Pictures: `restoration`, `mask` and `mask_<kind>`.
    """
    with torch.random.fork_rng(devices=()):  # a network is made with weights that are drawn
        network = UNet(config.width, config.depth)
    network.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in _part(fitted, "network.").items()}
    )
    network.to(device).eval()
    kinds = [kind for kind in MASK_KINDS if kind in fitted.info["kinds"]] if config.compare_masks else [config.mask]
    memories: dict[MaskKind, Memory] = {
        kind: Memory(**_part(fitted, f"memory.{kind}.")) for kind in kinds if kind != "attention"
    }
    searches = _searches(memories, config, device)
    featured = Comparison(fitted.arrays, samples.imagenet, config) if config.compare == "features" else None
    for kind in kinds:
        _rows(samples, kind)
    for rows in batches(len(samples), BATCH):
        images = samples.images[rows]
        small = compare.reduced(images, config.image_side)
        sources = {kind: _rows(samples, kind)[rows] for kind in kinds}
        scored = []
        with one_thread():
            for i, image in enumerate(small):
                saliency = {kind: _saliency(of[i], searches.get(kind), NOBODY) for kind, of in sources.items()}
                masks = {kind: mask_of(plane, len(image), config.mask_fraction) for kind, plane in saliency.items()}
                scored.append(_scored(network, image, masks, fitted, config))
        cut = np.stack([one.pictures["mask"] for one in scored])
        yield from map(_summed_up, scored if featured is None else featured.scored(images, scored, cut))


def _summed_up(one: ScoreMap) -> ScoreMap:
    """With the other two ways to make one number of a map."""
    plane = one.anomaly_map
    ways = {"max": float(plane.max()), "mean": float(plane.mean(dtype=np.float64))}
    return replace(one, extras={**one.extras, **ways})


def _scored(
    network: UNet,
    image: NDArray[np.uint8],
    masks: Mapping[MaskKind, NDArray[np.bool_]],
    fitted: Fitted,
    config: EarConfig,
) -> ScoreMap:
    """What one image (S, S, 3) gets by pixels under each of its masks (S, S)."""
    deployed: PixelKind = "ssim" if config.compare == "features" else config.compare
    maps: dict[tuple[MaskKind, PixelKind], NDArray[np.float32]] = {}
    restorations = {}
    pixels = as_tensor(image[None])
    for kind, mask in masks.items():
        found, differences = restore(network, pixels, torch.from_numpy(mask)[None, None], fitted.info["scale"])
        for by, plane in differences.items():
            normal = _part(fitted, f"{kind}.{by}.")
            maps[kind, by] = _standardised(plane.numpy(), normal["mean"], normal["spread"], config)
        restorations[kind] = as_bytes(found[0])
    scores = {at: _top(plane, config.top_fraction) for at, plane in maps.items()}
    return ScoreMap(
        anomaly_map=maps[config.mask, deployed],
        image_score=scores[config.mask, deployed],
        extras={
            **{by: scores[config.mask, by] for by in PIXEL_KINDS},
            **{f"score_{kind}": scores[kind, deployed] for kind in masks},
        },
        pictures={
            "restoration": restorations[config.mask],
            "mask": masks[config.mask].astype(np.float16),
            **{f"mask_{kind}": mask.astype(np.float16) for kind, mask in masks.items()},
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
    side = config.image_side
    masks = np.empty((len(samples), side, side), dtype=np.bool_)
    source = _rows(samples, kind)
    for rows in batches(len(samples), READ):
        for i, one in enumerate(source[rows], start=rows.start):
            saliency = _saliency(one, searches.get(kind), i if known else NOBODY)
            masks[i] = mask_of(saliency, side, config.mask_fraction)
    return masks


def _arrays(network: UNet, memories: Mapping[MaskKind, Memory]) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {f"network.{k}": v.cpu().numpy() for k, v in network.state_dict().items()}
    for kind, memory in memories.items():
        for name in ("features", "owners", "centre", "spread"):
            arrays[f"memory.{kind}.{name}"] = getattr(memory, name)
    return arrays


def _part(fitted: Fitted, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in fitted.arrays.items() if name.startswith(prefix)}
