"""Flips: test images whose decision changed from A to B, worst first."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.compare.matching import MatchedImages
from pipeline.compare.sides import Key

Kind = Literal["newly missed defect", "new false alarm", "newly found defect", "false alarm gone"]
KINDS: dict[tuple[bool, bool], Kind] = {
    (True, False): "newly missed defect",
    (False, True): "new false alarm",
    (True, True): "newly found defect",
    (False, False): "false alarm gone",
}
"""By (the image is a defect, B rejects it)."""
WORSE = frozenset({"newly missed defect", "new false alarm"})


@dataclass(frozen=True)
class Flip:
    """One image whose decision by one detector changed."""

    category: str
    detector: str
    kind: Kind
    path: str
    """Below data/raw, in B."""
    path_a: str
    """The same in A."""
    sha256: str
    defect_type: str
    score_a: float
    threshold_a: float
    score_b: float
    threshold_b: float
    beyond: float
    """Distance of B's score from B's threshold, in standard deviations of B's scores of good test images."""

    @property
    def worse(self) -> bool:
        return self.kind in WORSE


def find_flips(key: Key, images: MatchedImages) -> list[Flip]:
    """Flips of a detector; none if a side has no threshold."""
    if not {"decision", "threshold"} <= set(images.a.columns) & set(images.b.columns):
        return []
    decided = (images.a["decision"].notna() & images.b["decision"].notna()).to_numpy()
    changed = (images.a["decision"].fillna(0) != images.b["decision"].fillna(0)).to_numpy(dtype=bool)
    good = images.b.loc[images.b["label"] == 0, "image_score"].to_numpy()
    spread = float(good.std()) if len(good) > 1 else 0.0
    rows = ((table[decided & changed]).to_dict("records") for table in (images.a, images.b))
    return [_flip(key, a, b, spread) for a, b in zip(*rows, strict=True)]


def _flip(key: Key, a: Mapping[Hashable, Any], b: Mapping[Hashable, Any], spread: float) -> Flip:
    distance = abs(b["image_score"] - b["threshold"])
    return Flip(
        category=key.category,
        detector=key.detector,
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
    """Sort key: new errors before corrected ones, and those farther beyond the threshold first."""
    return not flip.worse, -flip.beyond, flip.path, flip.detector
