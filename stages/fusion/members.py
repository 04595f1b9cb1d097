"""The members of the fusion, and the detector that decides."""

from __future__ import annotations

from collections.abc import Sequence

FUSION = "fused"
"""The name of the fusion among the detectors."""


def members(chosen: Sequence[str], running: Sequence[str]) -> tuple[str, ...]:
    """The members of the fusion: the detectors of `chosen` that run. None if fewer than two run.

    Args:
        chosen: `fused.detectors`.
        running: `detectors`.
    """
    both = tuple(name for name in chosen if name in running)
    return both if len(both) > 1 else ()


def scored(chosen: Sequence[str], running: Sequence[str]) -> tuple[str, ...]:
    """The detectors that get metrics: those that run, and their fusion if there is one."""
    return (*running, FUSION) if members(chosen, running) else tuple(running)


def deciding(chosen: Sequence[str], running: Sequence[str]) -> str:
    """The detector that decides by default: the fusion, or the first detector if there is no fusion."""
    return FUSION if members(chosen, running) else running[0]
