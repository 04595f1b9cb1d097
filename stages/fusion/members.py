"""Who is in the fusion, and whose verdict counts."""

from __future__ import annotations

from collections.abc import Sequence

FUSION = "fused"
"""What the fusion is called beside the detectors."""


def members(chosen: Sequence[str], running: Sequence[str]) -> tuple[str, ...]:
    """Members of the fusion: the `chosen` detectors (`fused.detectors`) that run; none where fewer than two do."""
    found = tuple(name for name in chosen if name in running)
    return found if len(found) > 1 else ()


def scored(chosen: Sequence[str], running: Sequence[str]) -> tuple[str, ...]:
    """What is scored: the detectors that run, and their fusion, where there is one."""
    return (*running, FUSION) if members(chosen, running) else tuple(running)


def deciding(chosen: Sequence[str], running: Sequence[str]) -> str:
    """Whose verdict counts by default: the fusion's, or the first detector's where there is none."""
    return FUSION if members(chosen, running) else running[0]
