"""What each kind of mask is made from: class attention, or raw or denoised patch tokens of the backbone."""

from __future__ import annotations

from collections.abc import Mapping

from stages.detectors.ear.config import MASK_KINDS, EarConfig, MaskKind
from stages.types import Rows, Samples, UserError

MASK_SOURCES: Mapping[MaskKind, str] = {"attention": "attention", "rarity_raw": "raw", "rarity_clean": "clean"}
"""Kind of mask -> the field of `Samples` that it is made from."""


def source_fields(config: EarConfig) -> frozenset[str]:
    """The fields of `Samples` that the deployed mask reads, and the masks that are compared with it."""
    return frozenset(MASK_SOURCES.values() if config.compare_masks else (MASK_SOURCES[config.mask],))


def source_rows(samples: Samples, kind: MaskKind) -> Rows:
    """What a kind of mask is made from: (N, heads, h, w) attention, or (N, h, w, C) tokens.

    Raises:
        UserError: the samples come without it.
    """
    rows: Rows | None = getattr(samples, MASK_SOURCES[kind])
    if rows is not None:
        return rows
    if kind == "attention":
        raise UserError(
            "ear.mask is 'attention', but the backbone has no class token and so no class attention: set ear.mask to"
            " 'rarity_raw' or 'rarity_clean', or choose a backbone with a class token"
        )
    raise UserError(
        f"ear.mask is '{kind}', but the images come without '{MASK_SOURCES[kind]}' patch tokens of the backbone"
    )


def available_kinds(samples: Samples, config: EarConfig) -> tuple[MaskKind, ...]:
    """The kinds of mask to make: the deployed kind, and the kinds compared with it whose source the samples have.

    Raises:
        UserError: the samples come without the source of the deployed kind.
    """
    source_rows(samples, config.mask)
    if not config.compare_masks:
        return (config.mask,)
    return tuple(kind for kind in MASK_KINDS if getattr(samples, MASK_SOURCES[kind]) is not None)


def reason_left_out(kind: MaskKind, config: EarConfig) -> str:
    """Why a kind of mask is not among the `available_kinds`."""
    if not config.compare_masks:
        return "ear.compare_masks is off"
    return "the backbone has no class token" if kind == "attention" else f"no {MASK_SOURCES[kind]} patch tokens"
