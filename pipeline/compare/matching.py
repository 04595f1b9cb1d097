"""Which test images two sides share, and why their figures may not be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.compare.sides import Side


@dataclass(frozen=True)
class Match:
    """The test images of one category and detector that both sides have, with the same label; rows agree."""

    a: pd.DataFrame
    b: pd.DataFrame
    reason: str | None
    """Why the test sets are not the same; None where they are."""

    @property
    def labels(self) -> NDArray[np.bool_]:
        return self.a["label"].to_numpy().astype(bool)

    @property
    def identity(self) -> tuple[str, bytes]:
        """Equal for equal images with equal labels in the same order."""
        return "".join(self.a["sha256"]), self.labels.tobytes()


def match(a: pd.DataFrame, b: pd.DataFrame, side_a: Side, side_b: Side) -> Match:
    """Pair the test images by content (sha256; files of the same content in the order of their paths).

    Rows are sorted by content, so that resamples do not depend on the order of files.
    """
    test_a, test_b = _test_images(a), _test_images(b)
    only_a, only_b = test_a.index.difference(test_b.index), test_b.index.difference(test_a.index)
    common = test_a.index.intersection(test_b.index).sort_values()
    test_a, test_b = test_a.loc[common], test_b.loc[common]
    alike = (test_a["label"] == test_b["label"]).to_numpy()
    reasons = []
    if len(only_a) or len(only_b):
        moved_a, moved_b = _elsewhere(only_a, side_b), _elsewhere(only_b, side_a)
        if moved_a or moved_b:
            reasons.append(
                f"other split: {moved_a} of A's test images are in B's training or validation, {moved_b} the other way"
            )
        reasons.append(f"other images: {len(only_a)} only in A, {len(only_b)} only in B, {len(common)} in both")
    if not alike.all():
        reasons.append(f"other labels: {int((~alike).sum())} of {len(common)} common images")
    return Match(test_a[alike], test_b[alike], "; ".join(reasons) or None)


def _test_images(table: pd.DataFrame) -> pd.DataFrame:
    """Test rows by digest and, for files of the same content, by a running number."""
    test = table[table["split"] == "test"].sort_values("path")
    number = test.groupby("sha256").cumcount()
    return test.set_index(pd.MultiIndex.from_arrays([test["sha256"], number], names=["content", "copy"]))


def _elsewhere(images: pd.Index, side: Side) -> int:
    """How many of the images are in a side's training or validation."""
    if side.manifest is None:
        return 0
    used = side.manifest.loc[side.manifest["split"].isin(["train", "validation"]), "sha256"]
    return int(images.get_level_values(0).isin(used).sum())
