"""Test images whose decision changed from A to B, worst first."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.compare.matching import Match
from pipeline.compare.sides import Key

Kind = Literal["newly missed defect", "new false alarm", "newly found defect", "false alarm gone"]
KINDS: dict[tuple[bool, bool], Kind] = {
    (True, False): "newly missed defect",
    (False, True): "new false alarm",
    (True, True): "newly found defect",
    (False, False): "false alarm gone",
}
"""By (is a defect, is rejected by B)."""
WORSE = frozenset({"newly missed defect", "new false alarm"})


@dataclass(frozen=True)
class Flip:
    """One image and what one detector said of it."""

    category: str
    detector: str
    kind: Kind
    path: str
    """Below data/raw, in B; where only A has its file, in A."""
    path_a: str
    sha256: str
    defect_type: str
    score_a: float
    threshold_a: float
    score_b: float
    threshold_b: float
    beyond: float
    """How far B's score lies from B's threshold, in standard deviations of B's scores of good test images."""

    @property
    def worse(self) -> bool:
        return self.kind in WORSE


def flips_of(key: Key, pair: Match) -> list[Flip]:
    """Flips of a detector; none where a side has no threshold."""
    if not {"decision", "threshold"} <= set(pair.a.columns) & set(pair.b.columns):
        return []
    decided = (pair.a["decision"].notna() & pair.b["decision"].notna()).to_numpy()
    changed = (pair.a["decision"].fillna(0) != pair.b["decision"].fillna(0)).to_numpy(dtype=bool)
    good = pair.b.loc[pair.b["label"] == 0, "image_score"].to_numpy()
    spread = float(good.std()) if len(good) > 1 else 0.0
    rows = ((one[decided & changed]).to_dict("records") for one in (pair.a, pair.b))
    return [_flip(key, a, b, spread) for a, b in zip(*rows, strict=True)]


def _flip(key: Key, a: Mapping[Hashable, Any], b: Mapping[Hashable, Any], spread: float) -> Flip:
    distance = abs(b["image_score"] - b["threshold"])
    return Flip(
        category=key[0],
        detector=key[1],
        kind=KINDS[bool(b["label"]), bool(b["decision"])],
        path=b["path"],
        path_a=a["path"],
        sha256=b["sha256"],
        defect_type=b.get("defect_type") or "",
        score_a=float(a["image_score"]),
        threshold_a=float(a["threshold"]),
        score_b=float(b["image_score"]),
        threshold_b=float(b["threshold"]),
        beyond=float(distance / spread if spread > 0 else distance),
    )


def worst_first(flip: Flip) -> tuple[bool, float, str, str]:
    """New errors before mended ones; within each, the farther beyond the threshold the earlier."""
    return not flip.worse, -flip.beyond, flip.path, flip.detector
